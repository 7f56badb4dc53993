//go:build unix

package ovhauth

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// unreadable are things in the place of a configuration file that must not be read, and what is said of them.
var unreadable = map[string]struct {
	put  func(t *testing.T, path string)
	says string
}{
	"directory": {func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)) }, "not a regular file"},
	"pipe":      {func(t *testing.T, path string) { must(t, syscall.Mkfifo(path, 0o600)) }, "not a regular file"},
	"device":    {func(t *testing.T, path string) { must(t, os.Symlink("/dev/zero", path)) }, "not a regular file"},
	"large":     {func(t *testing.T, path string) { write(t, path, strings.Repeat("#\n", maxConf/2)+"#") }, "larger than 1 MiB"},
	"keys":      {func(t *testing.T, path string) { write(t, path, strings.Repeat("\f\n\va=b\n", maxLines+1)) }, "more than 10000 lines"},
	"sections":  {func(t *testing.T, path string) { write(t, path, strings.Repeat(" [a]\n#\n", maxLines+1)) }, "more than 10000 lines"},
	"forbidden": {func(t *testing.T, path string) {
		if os.Getuid() == 0 {
			t.Skip("root can read everything")
		}
		write(t, path, keysEU)
		must(t, os.Chmod(path, 0))
	}, "permission denied"},
	"below a file": {func(t *testing.T, path string) { must(t, os.Symlink("/dev/null/ovh.conf", path)) }, ""},
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What cannot be read is skipped, and named only if keys are missing afterwards.
func TestUnreadableFiles(t *testing.T) {
	for name, file := range unreadable {
		t.Run(name, func(t *testing.T) {
			f := isolate(t)
			file.put(t, f.home)
			got, err := sentBy(t, nil, "")
			if !errors.Is(err, ErrMissingCredentials) || !strings.Contains(err.Error(), f.home) || !strings.Contains(err.Error(), file.says) ||
				strings.Contains(err.Error(), "skipped") != (file.says != "") {
				t.Errorf("without keys: %v, %v; want an error that says %q, and that the file was skipped if it is one", got, err, file.says)
			}
			write(t, f.etc, keysEU)
			if got, err := sentBy(t, nil, ""); err != nil || got.ConsumerKey != "CK" {
				t.Errorf("with keys in a file below: %v, %v; want them", got, err)
			}
			must(t, os.Remove(f.etc))
			t.Setenv("OVH_ACCESS_TOKEN", "T")
			if got, err := sentBy(t, nil, ""); err != nil || got.AccessToken != "T" {
				t.Errorf("with a token in the environment: %v, %v; want it", got, err)
			}
			for _, e := range []Endpoint{"", EU} {
				_, err := FileCredentials(e, f.home).Retrieve(t.Context())
				if err == nil || !strings.Contains(err.Error(), f.home) || !strings.Contains(err.Error(), file.says) {
					t.Errorf("named explicitly: %v; want an error that says %q", err, file.says)
				}
			}
		})
	}
}

func TestLargestFile(t *testing.T) {
	f := isolate(t)
	for name, more := range map[string]string{
		"a file of almost 1 MiB": strings.Repeat("#\n", (maxConf-len(keysEU))/2),
		"a file of 10,000 lines": strings.Repeat("a=b\n\n;\n", maxLines-strings.Count(keysEU, "\n")),
	} {
		write(t, f.home, keysEU+more)
		if c, err := FileCredentials(EU, f.home).Retrieve(t.Context()); err != nil || c != credentialsEU {
			t.Errorf("%s: %v, %v; want its keys", name, c, err)
		}
	}
}

// With everything in the environment no file is opened, and none for keys if that is only the endpoint's name.
func TestWhichFilesAreOpened(t *testing.T) {
	for _, test := range []struct {
		name      string
		variable  string // OVH_ENDPOINT
		transport *Transport
		want      int
	}{
		{"OVH_ENDPOINT", "ovh-eu", &Transport{}, 0},
		{"Endpoint in code", "", &Transport{Endpoint: EU}, 0},
		{"EnvCredentials", "", &Transport{Credentials: EnvCredentials()}, 0},
		{"no endpoint", "", &Transport{}, 3},
		{"FileCredentials", "", &Transport{Endpoint: EU, Credentials: FileCredentials(EU)}, 3},
	} {
		f := isolate(t)
		t.Setenv("OVH_ENDPOINT", test.variable)
		t.Setenv("OVH_ACCESS_TOKEN", "T")
		write(t, f.cwd, keysEU)
		test.transport.Base = roundTripFunc(func(*http.Request) (*http.Response, error) { return response(200, "{}"), nil })
		opened := 0
		ctx := &hookedContext{Context: t.Context(), onErr: func(int) {
			var callers [10]uintptr
			frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers[:])])
			for frame, more := frames.Next(); more; frame, more = frames.Next() {
				if strings.HasSuffix(frame.Function, ".readFile") { // it asks for the context's error once
					opened++
				}
			}
		}}
		req, _ := http.NewRequestWithContext(ctx, "GET", "/me", nil)
		if _, err := test.transport.RoundTrip(req); err != nil || opened != test.want {
			t.Errorf("%s: %v, %d files opened, want %d", test.name, err, opened, test.want)
		}
	}
}

// A file of keys that others can read is reported once.
func TestExposedFile(t *testing.T) {
	for _, test := range []struct {
		name string
		mode os.FileMode
		text string
		want int // lines
	}{
		{"private", 0o600, keysEU, 0},
		{"executable by others", 0o611, keysEU, 0},
		{"readable by the group", 0o640, keysEU, 1},
		{"readable by others", 0o604, keysEU, 1},
		{"readable, without keys", 0o644, "[default]\nendpoint = ovh-eu\n[ovh-eu]\nconsumer_key =\n", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := isolate(t)
			write(t, f.etc, keysEU)
			write(t, f.home, test.text)
			must(t, os.Chmod(f.home, test.mode))
			var log bytes.Buffer
			transport := &Transport{
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
				Base:   roundTripFunc(func(*http.Request) (*http.Response, error) { return response(200, "{}"), nil }),
			}
			for range 2 {
				req, _ := http.NewRequest("GET", "/me", nil)
				if _, err := transport.RoundTrip(req); err != nil {
					t.Fatal(err)
				}
				provider := transport.ready.Load().credentials.(*lookup)
				provider.Invalidate(credentialsEU) // so that the files are read again
			}
			if got := strings.Count(log.String(), "\n"); got != test.want || test.want == 1 && !strings.Contains(log.String(), "file="+f.home) {
				t.Errorf("logged %d lines, want %d that name the file:\n%s", got, test.want, &log)
			}
		})
	}
}
