package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhjson"
)

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		args string
		want options
		fail string // what the error says; "" for none
	}{
		{"", options{}, ""},
		{"-tls -clock -90s -fail 10% -quota 60/m", options{true, -90 * time.Second, 0.1, quota{60, time.Minute}}, ""},
		{"-fail 100 -quota 5/10s", options{fail: 1, quota: quota{5, 10 * time.Second}}, ""},
		{"-quota 1/h", options{quota: quota{1, time.Hour}}, ""},
		{"-fail 101%", options{}, "must be a percentage"},
		{"-fail -1%", options{}, "must be a percentage"},
		{"-fail NaN", options{}, "must be a percentage"},
		{"-quota 60", options{}, "must be a number of requests"},
		{"-quota 0/m", options{}, "must be a number of requests"},
		{"-quota 5/0s", options{}, "must be a number of requests"},
		{"-quota 5/-1s", options{}, "must be a number of requests"},
		{"-quota x/m", options{}, "must be a number of requests"},
		{"-clock x", options{}, "invalid value"},
		{"tls", options{}, `no arguments, but "tls"`},
	} {
		got, err := parse(strings.Fields(test.args), io.Discard)
		if got != test.want || (err == nil) != (test.fail == "") || err != nil && !strings.Contains(err.Error(), test.fail) {
			t.Errorf("%s: got %+v, %v; want %+v, %q", test.args, got, err, test.want, test.fail)
		}
	}
	for want, value := range map[string]flag.Value{"10%": new(share(0.1)), "none": &quota{}, "60/1m0s": &quota{60, time.Minute}} {
		if got := value.String(); got != want {
			t.Errorf("%#v prints %s, want %s", value, got, want)
		}
	}
}

// start runs the program, and returns what it exports, "# " before the name of what it has as a comment, and the exchanges as they
// come.
func start(t *testing.T, args ...string) (exported map[string]string, exchanges <-chan string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	out, outWriter := io.Pipe()
	seen, seenWriter := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, args, outWriter, seenWriter) }()
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(seen); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v, want no error", err)
		}
		seenWriter.Close()
	})
	exported = map[string]string{}
	for scanner := bufio.NewScanner(out); !strings.Contains(scanner.Text(), "OVH_CLIENT_ID") && scanner.Scan(); {
		line, comment := strings.CutPrefix(scanner.Text(), "# ")
		for word := range strings.FieldsSeq(strings.TrimPrefix(line, "export ")) {
			if name, value, ok := strings.Cut(word, "="); ok && comment {
				exported["# "+name] = value
			} else if ok {
				exported[name] = value
			}
		}
	}
	return exported, lines
}

func keysOf(exported map[string]string) ovhauth.Credentials {
	return ovhauth.Credentials{ApplicationKey: exported["OVH_APPLICATION_KEY"], ApplicationSecret: exported["OVH_APPLICATION_SECRET"],
		ConsumerKey: exported["OVH_CONSUMER_KEY"]}
}

func TestServes(t *testing.T) {
	exported, exchanges := start(t, "-clock", "1h", "-quota", "3/h")
	endpoint := ovhauth.Endpoint(exported["OVH_ENDPOINT"])
	account := ovhauth.ServiceAccount(endpoint, exported["# OVH_CLIENT_ID"], exported["# OVH_CLIENT_SECRET"])
	for _, test := range []struct {
		name        string
		credentials ovhauth.CredentialProvider
		want        []string // what the exchanges say
	}{
		{"keys, by a clock an hour behind", keysOf(exported), []string{"status 400 QUERY_TIME_OUT", "status 200"}},
		{"a service account, and the quota is used up", account, []string{"POST", "status 429"}},
	} {
		client := &http.Client{Transport: &ovhauth.Transport{Endpoint: endpoint, Credentials: test.credentials}}
		_, err := ovhjson.Get[any](t.Context(), client, "/me")
		var lines []string // in the order in which their handlers end
		for range test.want {
			lines = append(lines, <-exchanges)
		}
		for _, want := range test.want {
			if !strings.Contains(strings.Join(lines, "\n"), want) {
				t.Errorf("%s: printed %q, %v; want %s", test.name, lines, err, want)
			}
		}
	}
}

func TestQuotaIsPerItsTime(t *testing.T) {
	exported, _ := start(t, "-quota", "1/1ns")
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.Endpoint(exported["OVH_ENDPOINT"]), Credentials: keysOf(exported)}}
	for range 2 {
		if _, err := ovhjson.Get[any](t.Context(), client, "/me"); err != nil {
			t.Errorf("one request a nanosecond: %v, want no error", err)
		}
	}
}

func TestFails(t *testing.T) {
	exported, exchanges := start(t, "-fail", "100%")
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.Endpoint(exported["OVH_ENDPOINT"]), Credentials: keysOf(exported)}}
	if _, err := ovhjson.Get[any](t.Context(), client, "/me"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("got %v, want a 503", err)
	}
	if line := <-exchanges; !strings.Contains(line, "verified true, executed false, status 503") {
		t.Errorf("printed %s, want a 503 that was not executed", line)
	}
}

// A program that trusts the exported certificate needs no other trust.
func TestServesTLS(t *testing.T) {
	var path string
	t.Cleanup(func() { // after that of start
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("at the end the certificate is there (%v), want it removed", err)
		}
	})
	exported, _ := start(t, "-tls")
	path = exported["SSL_CERT_FILE"]
	for _, name := range []string{"REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"} {
		if exported[name] != path {
			t.Errorf("%s is %q, want %s", name, exported[name], path)
		}
	}
	certificate, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	base := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer base.CloseIdleConnections()
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.Endpoint(exported["OVH_ENDPOINT"]), Credentials: keysOf(exported), Base: base}}
	if _, err := ovhjson.Get[any](t.Context(), client, "/me"); err != nil {
		t.Errorf("got %v, want no error", err)
	}
}

func TestBadFlagsAreErrors(t *testing.T) {
	if err := run(t.Context(), []string{"-x"}, io.Discard, io.Discard); err == nil {
		t.Error("-x: no error")
	}
	if err := run(t.Context(), []string{"-h"}, io.Discard, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v, want flag.ErrHelp", err)
	}
	t.Setenv("TMPDIR", "/nonexistent")
	if err := run(t.Context(), []string{"-tls"}, io.Discard, io.Discard); err == nil {
		t.Error("a certificate that cannot be written: no error")
	}
}

// program is set in the environment of this test, run as the program itself.
const program = "OVHAUTH_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(program) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestSignals(t *testing.T) {
	t.Setenv(program, "1")
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if !bufio.NewScanner(out).Scan() {
			t.Errorf("%s: the program said nothing, want what to export", signal)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: the program ended with %v, want no error", signal, err)
		}
	}
}

func TestExitStatus(t *testing.T) {
	t.Setenv(program, "1")
	for flags, want := range map[string]int{"-h": 0, "-x": 1} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], flags)
		if cmd.Run(); cmd.ProcessState.ExitCode() != want {
			t.Errorf("%s: exit status %d, want %d", flags, cmd.ProcessState.ExitCode(), want)
		}
	}
}
