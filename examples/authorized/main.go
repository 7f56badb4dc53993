// Command authorized lists the applications that have access to an OVHcloud account, and withdraws it: authorized -revoke ID.
//
// It talks to the API if it finds keys in the environment or in ovh.conf, else to a server of its own on this machine. The keys
// need GET on /me/api/*, and DELETE for -revoke.
package main

import (
	"context"
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
	"example.com/ovhauth/consumerkey"
	"example.com/ovhauth/examples/internal/keys"
	"example.com/ovhauth/ovhjson"
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
	transport, server, err := keys.Find(ctx, os.Stdout, "https://eu.api.ovh.com/createToken/?GET=/me/api/*&DELETE=/me/api/*")
	if err != nil {
		return err
	}
	if server != nil {
		defer server.Close()
		server.NewApplication()
	}
	client := &http.Client{Transport: transport}
	if revoke != 0 {
		if _, err := ovhjson.Delete[any](ctx, client, fmt.Sprint("/me/api/credential/", revoke)); err != nil {
			return err
		}
		fmt.Printf("The access with ID %d is withdrawn.\n", revoke)
	}
	err = list(ctx, client)
	if revoke != 0 && errors.Is(err, ovhauth.ErrUnknownCredential) {
		fmt.Println("It was the key that this program used, so what remains cannot be listed.")
		return nil
	}
	return err
}

func list(ctx context.Context, client *http.Client) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tNAME\tDESCRIPTION\tSTATUS\tCREATION\tEXPIRATION\tLAST USE")
	for id, err := range ovhjson.List[int64](ctx, client, "/me/api/credential?status=validated") {
		if err != nil {
			return err
		}
		path := fmt.Sprint("/me/api/credential/", id)
		access, err := ovhjson.Get[consumerkey.Info](ctx, client, path)
		if e, ok := errors.AsType[*ovhauth.APIError](err); ok && e.StatusCode == http.StatusNotFound {
			continue // withdrawn since it was listed
		}
		if err != nil {
			return err
		}
		app, err := ovhjson.Get[struct{ Name, Description, Status string }](ctx, client, path+"/application")
		if err != nil {
			return err
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", id, printable(app.Name), printable(app.Description), app.Status,
			date(&access.Creation, ""), date(access.Expiration, "never"), date(access.LastUse, "never"))
	}
	return table.Flush()
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
