//go:build linux

package redislimit_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/redislimit"
	"github.com/redis/go-redis/v9"
)

// server is a redis-server of the test's own, in a directory of its own. It keeps nothing on disk: at every start it is empty.
type server struct {
	t       *testing.T
	dir     string
	addr    string // of a socket, or of a port on loopback
	args    []string
	process *os.Process
}

// startRedis starts one that is reached by a socket.
func startRedis(t *testing.T, args ...string) *server {
	t.Helper()
	dir := newDir(t)
	socket := filepath.Join(dir, "redis.sock")
	return start(t, "redis-server", dir, socket, append([]string{"--port", "0", "--unixsocket", socket}, args...)...)
}

// startOnPort starts one that is reached by a port of loopback.
func startOnPort(t *testing.T, args ...string) *server {
	t.Helper()
	port := freePort(t)
	return start(t, "redis-server", newDir(t), "127.0.0.1:"+port, append([]string{"--port", port, "--bind", "127.0.0.1"}, args...)...)
}

func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "redislimit") // t.TempDir's names are longer than a socket's may be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// freePort returns a port that is free, with the one that a cluster needs besides.
func freePort(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		if port < 55000 {
			if bus, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port+10000)); err == nil {
				bus.Close()
				return fmt.Sprint(port)
			}
		}
	}
}

func start(t *testing.T, program, dir, addr string, args ...string) *server {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("needs Debian's packages redis-server and redis-sentinel: ", err)
	}
	s := &server{t: t, dir: dir, addr: addr, args: append([]string{program}, args...)}
	s.start()
	t.Cleanup(s.kill)
	return s
}

// start returns when the server is ready.
func (s *server) start() {
	s.t.Helper()
	args := append(s.args[1:], "--dir", s.dir, "--daemonize", "no", "--loglevel", "notice", "--logfile", "")
	if s.args[0] == "redis-server" {
		args = append(args, "--save", "", "--appendonly", "no")
	}
	cmd := exec.Command(s.args[0], args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // with the test, however that ends
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.process = cmd.Process
	var log strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		log.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "eady to accept connections") || strings.Contains(lines.Text(), "Sentinel ID is") {
			go io.Copy(io.Discard, out)
			return
		}
	}
	s.kill()
	s.t.Fatalf("%s did not start:\n%s", s.args[0], log.String())
}

func (s *server) kill() {
	if s.process != nil {
		s.process.Kill()
		s.process.Wait()
		s.process = nil
	}
}

// hang makes the server take connections and respond to nothing, until resume.
func (s *server) hang() {
	if err := s.process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) resume() { s.process.Signal(syscall.SIGCONT) }

// connect returns a client that heeds deadlines. Its pool is larger than the number of times that a test fails to connect: after
// as many, go-redis returns the last error, and looks only once a second whether Redis is back.
func connect(addr string) *redis.Client {
	network := "unix"
	if strings.Contains(addr, ":") {
		network = "tcp"
	}
	return redis.NewClient(&redis.Options{
		Network: network, Addr: addr, ContextTimeoutEnabled: true, DialerRetries: 1, PoolSize: 1000,
	})
}

func (s *server) client() *redis.Client {
	c := connect(s.addr)
	s.t.Cleanup(func() { c.Close() })
	return c
}

// hook is what happens to each command, or pipeline of them, before it is sent.
type hook func(ctx context.Context)

func (hook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h(ctx)
		return next(ctx, cmd)
	}
}
func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h(ctx)
		return next(ctx, cmds)
	}
}

func counting(n *atomic.Int64) hook { return func(context.Context) { n.Add(1) } }
func farther(by time.Duration) hook { return func(context.Context) { time.Sleep(by) } }
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// eventually tries until f returns nil, for half a minute.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

// source is a provider that counts what it gives: token-1, token-2, …
type source struct {
	mu      sync.Mutex
	given   int
	err     error
	life    time.Duration // 0: it does not say
	before  func(ctx context.Context)
	dropped []string
}

func (s *source) Retrieve(ctx context.Context) (ovhauth.Credentials, error) {
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		before(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return ovhauth.Credentials{}, s.err
	}
	s.given++
	c := ovhauth.Credentials{AccessToken: fmt.Sprint("hunter2-", s.given)}
	if s.life > 0 {
		c.Expires = time.Now().Add(s.life)
	}
	return c, nil
}

// change does something to it between two calls.
func (s *source) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *source) count() (n int) {
	s.change(func() { n = s.given })
	return n
}

func (s *source) Invalidate(c ovhauth.Credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.AccessToken != "" {
		s.dropped = append(s.dropped, c.AccessToken)
	}
}

func machine(rdb redis.UniversalClient, s *source) *redislimit.TokenCache {
	return &redislimit.TokenCache{Redis: rdb, Name: "prod", Secret: "hunter2-secret", Provider: s}
}

func retrieve(t *testing.T, c *redislimit.TokenCache, want string) {
	t.Helper()
	got, err := c.Retrieve(t.Context())
	if err != nil || got.AccessToken != want || got.Expires.IsZero() {
		t.Fatalf("%q, %v; want %q, and when it expires", got.AccessToken, err, want)
	}
}
