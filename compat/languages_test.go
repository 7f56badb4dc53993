package compat

import (
	"bufio"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"example.com/ovhauth"
)

// Clients in other languages sign by themselves, and ovhtest verifies it; or the proxy signs for them, whatever they send.

// language is a client in another language: a process that makes one call for each line of its input.
type language struct {
	name, language string
	program        string                // without which the test is skipped
	needs          string                // a file that compat/install makes, if any
	api            func(*testing.T) *api // that it can call by itself
	flags          []string              // of the proxy
	proxyURL       string                // for the table
	command        func(endpoint *url.URL, keys ovhauth.Credentials, certificate string) *exec.Cmd
}

var languages = []language{
	{
		name: "python-ovh's way, in Python's standard library", language: "Python", program: "python3",
		api: newAPI, proxyURL: "`http://localhost:8080/1.0`",
		command: func(endpoint *url.URL, keys ovhauth.Credentials, _ string) *exec.Cmd {
			return exec.Command("python3", "languages/client.py", endpoint.String(),
				keys.ApplicationKey, keys.ApplicationSecret, keys.ConsumerKey)
		},
	},
	{
		name: "@ovhcloud/node-ovh 3.0.0", language: "JavaScript", program: "node", needs: "languages/node_modules/@ovhcloud/node-ovh",
		api: newTLSAPI, flags: []string{"-tls"}, proxyURL: "`host: 'localhost', port: 8080`, with the proxy's `-tls`",
		command: func(endpoint *url.URL, keys ovhauth.Credentials, certificate string) *exec.Cmd {
			cmd := exec.Command("node", "languages/client.js", endpoint.Hostname(), endpoint.Port(),
				keys.ApplicationKey, keys.ApplicationSecret, keys.ConsumerKey)
			cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+certificate)
			return cmd
		},
	},
}

// require skips the test of a client that cannot be run here. CI runs all.
func (l *language) require(t *testing.T) {
	t.Helper()
	_, err := exec.LookPath(l.program)
	if err == nil && l.needs != "" {
		_, err = os.Stat(l.needs)
	}
	if err == nil {
		return
	}
	if os.Getenv("CI") == "1" {
		t.Fatalf("%v; run compat/install", err)
	}
	t.Skipf("%v; compat/install installs it", err)
}

// caller starts the client and returns what makes a call. It is stopped when the test ends.
func caller(t *testing.T, cmd *exec.Cmd) (call func(method, path, body string) (int, string, error)) {
	t.Helper()
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	results := json.NewDecoder(out)
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", cmd.Path, err)
		}
	})
	return func(method, path, body string) (int, string, error) {
		fmt.Fprintln(in, method, path, body)
		var result struct {
			Status int
			Body   string
		}
		err := results.Decode(&result)
		return result.Status, result.Body, err
	}
}

func TestGoOVHThroughTheProxy(t *testing.T) {
	t.Parallel()
	listed(t, row{
		Client: "go-ovh", Module: "github.com/ovh/go-ovh", Language: "Go", Wiring: "the proxy",
		BaseURL: "`http://localhost:8080/1.0`", Keys: "any three",
	})
	a := newAPI(t)
	endpoint, _ := startProxy(t, a)
	a.exerciseGoOVH(t, goOVH(t, endpoint.String(), nil))
}

func TestCurlThroughTheProxy(t *testing.T) {
	t.Parallel()
	listed(t, row{Client: "curl", Language: "shell", Wiring: "the proxy", BaseURL: "`http://localhost:8080`", Keys: "none"})
	(&language{program: "curl"}).require(t)
	a := newAPI(t)
	endpoint, _ := startProxy(t, a)
	curl := func(arguments ...string) (string, error) {
		output, err := exec.Command("curl", append([]string{"--silent", "--show-error"}, arguments...)...).Output()
		return string(output), err
	}
	a.exercise(t, func() (string, error) {
		return curl("http://" + endpoint.Host + "/me")
	}, func() (int, error) {
		output, err := curl("http://"+endpoint.Host+recordPath, "--json", record, "--output", "/dev/null", "--write-out", "%{http_code}")
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(output)
	})
}

func TestLanguagesThroughTheProxy(t *testing.T) {
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			listed(t, row{
				Client: l.name, Language: l.language, Wiring: "the proxy", BaseURL: l.proxyURL, Keys: "any three",
			})
			l.require(t)
			a := newAPI(t)
			endpoint, certificate := startProxy(t, a, l.flags...)
			any := ovhauth.Credentials{ApplicationKey: "any", ApplicationSecret: "any", ConsumerKey: "any"}
			call := caller(t, l.command(endpoint, any, certificate))
			a.exercise(t, func() (string, error) {
				_, body, err := call("GET", "/me", "")
				return body, err
			}, func() (int, error) {
				status, _, err := call("POST", recordPath, record)
				return status, err
			})
		})
	}
}

// What other clients sign by themselves must be right for ovhtest. They send nothing again, so each 503 is theirs.
func TestLanguagesByThemselves(t *testing.T) {
	for _, l := range languages {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			listed(t, row{
				Client: l.name, Language: l.language, Wiring: "by itself, against ovhtest", BaseURL: "ovhtest's", Keys: "ovhtest's",
			})
			l.require(t)
			a := l.api(t)
			endpoint, err := url.Parse(string(a.Endpoint()))
			if err != nil {
				t.Fatal(err)
			}
			certificate := ""
			if c := a.Certificate(); c != nil {
				certificate = filepath.Join(t.TempDir(), "certificate.pem")
				text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
				if err := os.WriteFile(certificate, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			call := caller(t, l.command(endpoint, a.Credentials(), certificate))
			told, made := map[int]int{}, 0
			for range rounds {
				for _, request := range [][3]string{{"GET", "/me", ""}, {"POST", recordPath, record}} {
					status, body, err := call(request[0], request[1], request[2])
					if err != nil || status != http.StatusOK && status != http.StatusServiceUnavailable {
						t.Fatalf("%s: %d %s, %v; want 200 or 503", request[0], status, body, err)
					}
					if told[status]++; status == http.StatusOK && request[0] == "POST" {
						made++
					}
				}
			}
			a.checkRecords(t, made)
			failed := 0
			for _, x := range a.Exchanges() {
				if x.Status == http.StatusServiceUnavailable {
					failed++
				}
				if !x.Verified && !strings.HasSuffix(x.URL, "/auth/time") {
					t.Errorf("not signed well: %v", x)
				}
			}
			if failed == 0 || told[http.StatusServiceUnavailable] != failed {
				t.Errorf("%d requests met 503, and the client was told so %d times; want some, and the same", failed,
					told[http.StatusServiceUnavailable])
			}
		})
	}
}

// buildProxy builds examples/proxy, once for all tests.
var buildProxy = sync.OnceValues(func() (path string, err error) {
	goCommands.Lock()
	defer goCommands.Unlock()
	if programs, err = os.MkdirTemp("", "compat"); err != nil {
		return "", err
	}
	path = filepath.Join(programs, "proxy")
	if output, err := exec.Command("go", "build", "-o", path, "example.com/ovhauth/examples/proxy").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, output)
	}
	return path, nil
})

var programs string // the directory of what was built

func removePrograms() {
	if programs != "" {
		os.RemoveAll(programs)
	}
}

// startProxy starts examples/proxy for an API. It returns the URL for a client, and the file of its certificate if it has one.
func startProxy(t *testing.T, a *api, flags ...string) (endpoint *url.URL, certificate string) {
	t.Helper()
	path, err := buildProxy()
	if err != nil {
		t.Fatal(err)
	}
	keys := a.Credentials()
	cmd := exec.Command(path, append([]string{"-listen", "localhost:0"}, flags...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{
		"HOME=" + cmd.Dir, "TMPDIR=" + cmd.Dir, "OVH_ENDPOINT=" + string(a.Endpoint()), "OVH_APPLICATION_KEY=" + keys.ApplicationKey,
		"OVH_APPLICATION_SECRET=" + keys.ApplicationSecret, "OVH_CONSUMER_KEY=" + keys.ConsumerKey,
	}
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if found := saysCertificate.FindStringSubmatch(lines.Text()); found != nil {
			certificate = found[1]
		}
		if found := saysURL.FindStringSubmatch(lines.Text()); found != nil {
			endpoint, err := url.Parse(found[1] + "/1.0")
			if err != nil {
				t.Fatal(err)
			}
			return endpoint, certificate
		}
	}
	t.Fatal("the proxy did not say where it listens")
	return nil, ""
}

// What the proxy says when it starts.
var (
	saysCertificate = regexp.MustCompile(`certificate is in (\S+)\. `)
	saysURL         = regexp.MustCompile(`(https?://[^/\s]+)/me`)
)
