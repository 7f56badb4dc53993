package redislimit_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// server is a redis-server of the test's own, on a socket in a directory of its own.
type server struct {
	t       *testing.T
	socket  string
	process *os.Process
}

func startRedis(t *testing.T) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("needs redis-server, of Debian's package of that name: ", err)
	}
	dir, err := os.MkdirTemp("", "redislimit") // t.TempDir's names are longer than a socket's may be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &server{t: t, socket: filepath.Join(dir, "redis.sock")}
	s.start()
	t.Cleanup(s.kill)
	return s
}

// start returns when the server is ready. It keeps nothing on disk: at every start it is empty.
func (s *server) start() {
	s.t.Helper()
	cmd := exec.Command("redis-server", "--port", "0", "--unixsocket", s.socket, "--save", "", "--appendonly", "no",
		"--dir", filepath.Dir(s.socket), "--daemonize", "no", "--loglevel", "notice", "--logfile", "")
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
		if strings.Contains(lines.Text(), "eady to accept connections") {
			return
		}
	}
	s.kill()
	s.t.Fatalf("redis-server did not start:\n%s", log.String())
}

func (s *server) kill() {
	if s.process != nil {
		s.process.Kill()
		s.process.Wait()
		s.process = nil
	}
}

// hang makes the server take connections and answer nothing, until resume.
func (s *server) hang() {
	if err := s.process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) resume() { s.process.Signal(syscall.SIGCONT) }

// connect returns a client that heeds deadlines. Its pool is larger than the number of times that a test fails to connect: after
// as many, go-redis answers with the last error, and looks only once a second whether Redis is back.
func connect(socket string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Network: "unix", Addr: socket, ContextTimeoutEnabled: true, DialerRetries: 1, PoolSize: 1000,
	})
}

func (s *server) client() *redis.Client {
	c := connect(s.socket)
	s.t.Cleanup(func() { c.Close() })
	return c
}

const never = time.Hour // the period of a quota from which nothing comes back while a test runs
