// Command authorized lists the applications that have access to an OVHcloud account, and withdraws it: authorized -revoke ID.
//
// It talks to the API if OVH_* variables are set, else to a server of its own on this machine. The keys need GET on /me/api/*,
// and DELETE for -revoke.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

func main() {
	revoke := flag.Int64("revoke", 0, "withdraw the access with this `ID`")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage() // "revoke 2" must not be taken for the wish to see a list
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	switch err := run(ctx, *revoke); {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "Interrupted.")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, revoke int64) error {
	transport := &ovhauth.Transport{}
	if !configured() {
		server := ovhtest.NewServer()
		defer server.Close()
		fmt.Println("No OVH_* variables are set, so this runs against an API server of its own,", server.Endpoint())
		fmt.Println("For your account, make keys at https://eu.api.ovh.com/createToken/?GET=/me/api/*&DELETE=/me/api/* and export")
		fmt.Println("OVH_ENDPOINT (ovh-eu, …), OVH_APPLICATION_KEY, OVH_APPLICATION_SECRET and OVH_CONSUMER_KEY.")
		fmt.Println()
		server.NewApplication()
		transport.Endpoint, transport.Credentials = server.Endpoint(), server.Credentials()
	}
	api := api{ctx, &http.Client{Transport: transport}}
	if revoke != 0 {
		if err := api.call(http.MethodDelete, fmt.Sprint("/me/api/credential/", revoke), nil); err != nil {
			return err
		}
		fmt.Printf("The access with ID %d is withdrawn.\n", revoke)
	}
	err := api.list()
	if revoke != 0 && errors.Is(err, ovhauth.ErrUnknownCredential) {
		fmt.Println("It was the key that this program used, so what remains cannot be listed.")
		return nil
	}
	return err
}

type api struct {
	ctx    context.Context
	client *http.Client
}

func (a api) list() error {
	var ids []int64
	if err := a.call(http.MethodGet, "/me/api/credential?status=validated", &ids); err != nil {
		return err
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tNAME\tDESCRIPTION\tSTATUS\tCREATION\tEXPIRATION\tLAST USE")
	for _, id := range ids {
		path := fmt.Sprint("/me/api/credential/", id)
		var access ovhauth.Credential
		err := a.call(http.MethodGet, path, &access)
		if e, ok := errors.AsType[*ovhauth.APIError](err); ok && e.StatusCode == http.StatusNotFound {
			continue // withdrawn since it was listed
		}
		if err != nil {
			return err
		}
		var app struct{ Name, Description, Status string }
		if err := a.call(http.MethodGet, path+"/application", &app); err != nil {
			return err
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", id, printable(app.Name), printable(app.Description), app.Status,
			date(&access.Creation, ""), date(access.Expiration, "never"), date(access.LastUse, "never"))
	}
	return table.Flush()
}

// call decodes the answer into out, unless out is nil.
func (a api) call(method, path string, out any) error {
	req, err := http.NewRequestWithContext(a.ctx, method, path, nil)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	if err := ovhauth.CheckResponse(resp); err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("reading the answer to %s %s: %w", method, path, err)
	}
	return nil
}

func date(t *time.Time, none string) string {
	if t == nil {
		return none
	}
	return t.Local().Format("2006-01-02 15:04")
}

// printable keeps what others have written from breaking the table, or the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

func configured() bool {
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "OVH_") && !strings.HasSuffix(v, "=") {
			return true
		}
	}
	return false
}
