package redislimit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTroubleIsNamed(t *testing.T) {
	for _, test := range []struct{ given, want string }{
		{"dial tcp 127.0.0.1:6379: connect: connection refused", "unreachable"},
		{"LOADING Redis is loading the dataset in memory", "loading"},
		{"OOM command not allowed when used memory > 'maxmemory'.", "out of memory"},
		{"NOPERM this user has no permissions to run the 'eval' command", "permission"},
		{"ERR The user executing the script can't run this command or subcommand script: x", "permission"},
		{"READONLY You can't write against a read only replica.", "read-only"},
		{"ERR Error running script: @user_script:1: -READONLY You can't write against a read only replica.", "read-only"},
		{"WRONGPASS invalid username-password pair or user is disabled.", "password"},
		{"NOAUTH Authentication required.", "password"},
		{"ERR Protocol error: unauthenticated bulk length", "password"},
		{"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", "cannot write to its disk"},
		{"NOREPLICAS Not enough good replicas to write.", "too few replicas"},
		{"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "master is down"},
		{"CLUSTERDOWN Hash slot not served", "cluster is down"},
	} {
		bubble(t, func(t *testing.T) {
			client := newLuaServer().client(time.Millisecond)
			client.err = errors.New(test.given)
			l := &Limiter{Redis: client, Key: "k"}
			began := time.Now()
			err := l.Wait(t.Context())
			if !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.given) {
				t.Errorf("%q: %v, want ErrUnavailable that says %q", test.given, err, test.want)
			}
			want := defaultTimeout
			if test.want == "permission" || test.want == "password" { // waiting does not help
				want = 0
			}
			if took := time.Since(began); took < want || took > want+300*time.Millisecond {
				t.Errorf("%q: after %s, want after %s", test.given, took, want)
			}
			if strings.Count(err.Error(), "redislimit: ") != 1 || !strings.HasPrefix(err.Error(), "redislimit: ") {
				t.Errorf("%q, want the package's name once, in front", err)
			}
		})
	}
}

// While there is time left, a caller waits for Redis to come back.
func TestCallersOutlastAnOutage(t *testing.T) {
	for _, test := range []struct {
		outage, left, timeout time.Duration
		want                  bool
	}{
		{3 * time.Second, 30 * time.Second, 0, true},
		{29 * time.Second, 30 * time.Second, 0, true},
		{31 * time.Second, 30 * time.Second, 0, false},
		{time.Second, 0, 0, true},
		{3 * time.Second, 0, 0, false},
		{3 * time.Second, 0, 4 * time.Second, true},
	} {
		bubble(t, func(t *testing.T) {
			server := newLuaServer()
			client := server.client(time.Millisecond)
			client.err = errRefused
			time.AfterFunc(test.outage, func() { server.change(func() { client.err = nil }) })
			ctx, cancel := context.WithCancel(t.Context())
			if test.left > 0 {
				ctx, cancel = context.WithTimeout(ctx, test.left)
			}
			defer cancel()
			began := time.Now()
			err := (&Limiter{Redis: client, Key: "k", Requests: 60, Timeout: test.timeout}).Wait(ctx)
			took := time.Since(began)
			if (err == nil) != test.want || test.want && took > test.outage+300*time.Millisecond {
				t.Errorf("outage of %s, deadline in %s, Timeout %s: %v after %s, want a turn: %t", test.outage, test.left, test.timeout, err, took, test.want)
			}
			if asked, most := server.asked.Load(), 20+int64(took/(50*time.Millisecond)); asked > most {
				t.Errorf("outage of %s: Redis was asked %d times in %s, want %d at most", test.outage, asked, took, most)
			}
			if err != nil && (!errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) != (test.left > 0)) {
				t.Errorf("outage of %s, deadline in %s: %v, want one that matches ErrUnavailable, and the context's error if it has ended", test.outage, test.left, err)
			}
		})
	}
}

// An outage between two round trips does not hurt those whose turn comes later.
func TestTurnsOutlastAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newLuaServer()
		client := server.client(time.Millisecond)
		l := &Limiter{Redis: client, Key: "k", Requests: 1, Per: time.Second}
		errs := make(chan error, 10)
		go queueUp(t.Context(), l, 10, func(_ int, err error) { errs <- err })
		time.Sleep(4500 * time.Millisecond)
		server.change(func() { client.err = errRefused })
		time.Sleep(1500 * time.Millisecond)
		server.change(func() { client.err = nil })
		for i := range 10 {
			if err := <-errs; err != nil {
				t.Errorf("turn %d: %v, want none, as the outage was shorter than the Timeout", i, err)
			}
		}
	})
}

// Without a deadline, who has a turn waits for Timeout from when it comes. Those whose turn comes later have lost nothing.
func TestALongOutageEndsAWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newLuaServer()
		client := server.client(time.Millisecond)
		l := &Limiter{Redis: client, Key: "k", Requests: 1, Per: time.Second}
		results := make(chan string, 8)
		began := time.Now()
		go queueUp(t.Context(), l, 8, func(i int, err error) { // 0 s to 7 s
			results <- fmt.Sprintf("%d after %s, unavailable: %t", i, time.Since(began).Round(time.Second), errors.Is(err, ErrUnavailable))
		})
		time.Sleep(500 * time.Millisecond)
		server.change(func() { client.err = errRefused })
		time.Sleep(4 * time.Second)
		server.change(func() { client.err = nil })
		var got []string
		for range 8 {
			got = append(got, <-results)
		}
		slices.Sort(got)
		want := []string{
			"0 after 0s, unavailable: false",
			"1 after 3s, unavailable: true", // Timeout after the turn after 1 s
			"2 after 3s, unavailable: true",
			"3 after 3s, unavailable: true",
			"4 after 4s, unavailable: true",
			"5 after 5s, unavailable: false",
			"6 after 6s, unavailable: false",
			"7 after 7s, unavailable: false",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

// The turns that were missed meanwhile are not made up for in a burst.
func TestNoBurstFollowsAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newLuaServer()
		var pods []*Limiter
		var clients []*luaClient
		for range 5 {
			clients = append(clients, server.client(time.Millisecond))
			pods = append(pods, &Limiter{Redis: clients[len(clients)-1], Key: "k", Requests: 10, Per: time.Second})
		}
		outage := func(err error) func() {
			return func() {
				server.change(func() {
					for _, c := range clients {
						c.err = err
					}
				})
			}
		}
		time.AfterFunc(3*time.Second, outage(errRefused))
		time.AfterFunc(8*time.Second, outage(nil))
		at := slices.Concat(turns(pods, 20, 30*time.Second)...) // 100 wait at any time
		if n := len(at); n < 97*250/100 || n > 255 {
			t.Errorf("%d turns in 30 s, 5 of them without Redis; want about 250", n)
		}
		if got := most(at, time.Second); got > 11 {
			t.Errorf("%d turns in one second, want at most 10, and one more", got)
		}
	})
}

// Those whose turns were missed take the next ones, or learn at once that these are too late for them.
func TestTurnsThatAnOutageTookMoveUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newLuaServer()
		client := server.client(time.Millisecond)
		l := &Limiter{Redis: client, Key: "k", Requests: 1, Per: time.Second}
		began := time.Now()
		results := make(chan string, 6)
		for i, left := range []time.Duration{time.Minute, 2800 * time.Millisecond, time.Minute, time.Minute, time.Minute, time.Minute} {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), left)
				defer cancel()
				err := l.Wait(ctx)
				late := errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
				if took := time.Since(began); late {
					results <- fmt.Sprintf("%d too late, at once: %t", i, took < 2700*time.Millisecond)
				} else {
					results <- fmt.Sprintf("%d after %s, %v", i, took.Round(time.Second), err)
				}
			}()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(500 * time.Millisecond)
		server.change(func() { client.err = errRefused })
		time.Sleep(1900 * time.Millisecond) // over the turns after 1 s and 2 s
		server.change(func() { client.err = nil })
		var got []string
		for range 6 {
			got = append(got, <-results)
		}
		want := []string{
			"0 after 0s, <nil>", "1 too late, at once: true", "2 after 3s, <nil>", "3 after 4s, <nil>", "4 after 5s, <nil>", "5 after 6s, <nil>",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

func TestAStateThatCannotBeIsReplaced(t *testing.T) {
	valid := func(server *luaServer) string { return server.values["ovhauth:limit:k"].text }
	// crowded is a state in which a hundred have booked, so that one who believes it waits, and one word of it is wrong.
	crowded := func(s *luaServer, i int, word string) string {
		words := strings.Fields(valid(s))
		words[3] += "00"
		words[i] = word
		return strings.Join(words, " ")
	}
	for _, test := range []struct {
		name   string
		damage func(s *luaServer) string
	}{
		{"text", func(*luaServer) string { return "nonsense" }},
		{"empty", func(*luaServer) string { return "" }},
		{"binary", func(*luaServer) string { return "\x00\xff\x01" }},
		{"number", func(*luaServer) string { return "99999999999999999999" }},
		{"of another version", func(s *luaServer) string { return crowded(s, 0, "2") }},
		{"a word", func(s *luaServer) string { return crowded(s, 2, "x") }},
		{"a number below 0", func(s *luaServer) string { return crowded(s, 2, "-1") }},
		{"a number beyond all", func(s *luaServer) string { return crowded(s, 2, "1e300") }},
		{"a space of years", func(s *luaServer) string { return crowded(s, 6, "1e14") }},
		{"cut", func(s *luaServer) string { return valid(s)[:40] }},
		{"nan", func(s *luaServer) string { return strings.Replace(valid(s), " 0", " nan", 1) }},
		{"infinite", func(s *luaServer) string { return strings.Replace(valid(s), " 0", " inf", 1) }},
		{"negative", func(s *luaServer) string { return strings.Replace(valid(s), " 0", " -1", 1) }},
		{"far future", func(s *luaServer) string {
			words := strings.Fields(valid(s))
			words[4] = fmt.Sprint(time.Now().Add(1000 * time.Hour).UnixMicro())
			return strings.Join(words, " ")
		}},
		{"a queue without end", func(s *luaServer) string {
			return crowded(s, 3, "60000000")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				server := newLuaServer()
				l := &Limiter{Redis: server.client(0), Key: "k", Requests: 60}
				turns([]*Limiter{l}, 4, 30*time.Second)
				server.change(func() { server.values["ovhauth:limit:k"] = value{test.damage(server), time.Now().Add(time.Hour)} })
				began := time.Now()
				if err := l.Wait(t.Context()); err != nil || time.Since(began) > time.Minute {
					t.Errorf("a turn after %s, %v; want one within a minute", time.Since(began), err)
				}
				if got := most(turns([]*Limiter{l}, 4, 3*time.Minute)[0], time.Minute); got > 61 {
					t.Errorf("then %d turns in one minute, want at most 60, and one more as it begins anew", got)
				}
			})
		})
	}
}

func TestAClockThatJumpsAndDataThatIsLost(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(s *luaServer)
	}{
		{"clock set back by a second", func(s *luaServer) { s.skew -= time.Second }},
		{"clock set back by an hour", func(s *luaServer) { s.skew -= time.Hour }},
		{"clock set back by a year", func(s *luaServer) { s.skew -= 365 * 24 * time.Hour }},
		{"clock set forward by an hour", func(s *luaServer) { s.skew += time.Hour }},
		{"FLUSHALL", func(s *luaServer) { clear(s.values) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				server := newLuaServer()
				var pods []*Limiter
				for range 5 {
					pods = append(pods, &Limiter{Redis: server.client(0), Key: "k", Requests: 60})
				}
				time.AfterFunc(2*time.Minute+300*time.Millisecond, func() { server.change(func() { test.damage(server) }) })
				began := time.Now()
				at := slices.Concat(turns(pods, 4, 5*time.Minute)...) // 20 wait at any time
				if n := len(at); n < 97*5*60/100-60 {
					t.Errorf("%d turns in 5 minutes, want nearly 300", n)
				}
				if got := most(at, time.Minute); got > 61 {
					t.Errorf("%d turns in one minute, want 60, and one more", got)
				}
				last := began
				for _, turn := range at { // most has sorted them
					if gap := turn.Sub(last); gap > time.Minute {
						t.Errorf("nothing for %s after %s, want no gap beyond a minute", gap, last.Sub(began))
					}
					last = turn
				}
			})
		})
	}
}

// A clock that is set back holds the turns up for no longer than Per, and nobody asks Redis again and again meanwhile.
func TestAClockSetBackHoldsNobodyUp(t *testing.T) {
	for _, back := range []time.Duration{500 * time.Millisecond, 2 * time.Second, 9 * time.Second, time.Hour} {
		t.Run(fmt.Sprint(back), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				server := newLuaServer()
				var pods []*Limiter
				for range 5 {
					pods = append(pods, &Limiter{Redis: server.client(time.Millisecond), Key: "k", Requests: 10, Per: time.Second})
				}
				time.AfterFunc(5*time.Second, func() { server.change(func() { server.skew -= back }) })
				began := time.Now()
				at := slices.Concat(turns(pods, 1, 20*time.Second)...)
				if n, fullest := len(at), most(at, time.Second); n < 194 || fullest > 11 {
					t.Errorf("%d turns in 20 s, %d in the fullest second; want nearly 200, and at most 10 and one more", n, fullest)
				}
				last := began
				for _, turn := range at {
					if gap := turn.Sub(last); gap > time.Second {
						t.Errorf("nothing for %s after %s, want no gap beyond a second", gap, last.Sub(began))
					}
					last = turn
				}
				if asked := int(server.asked.Load()); asked > 3*len(at) {
					t.Errorf("Redis was asked %d times for %d turns, want three times each at most", asked, len(at))
				}
			})
		})
	}
}

// What is given back can be booked again, once. A go-redis client sends a command again whose response was lost.
func TestWhatIsGivenBackIsBookedAgain(t *testing.T) {
	const patient = 1e12
	for _, test := range []struct {
		name     string
		given    func(s *luaServer, l *Limiter, give func(tickets ...int64))
		want     []int64
		wantTurn time.Duration // of the first of them
	}{
		{"two", func(_ *luaServer, _ *Limiter, give func(...int64)) { give(1, 2) }, []int64{1, 2, 4}, time.Second},
		{"the later one first", func(_ *luaServer, _ *Limiter, give func(...int64)) { give(2); give(1) }, []int64{1, 2, 4}, time.Second},
		{"the last", func(_ *luaServer, _ *Limiter, give func(...int64)) { give(3) }, []int64{3, 4, 5}, 3 * time.Second},
		{"twice", func(_ *luaServer, _ *Limiter, give func(...int64)) { give(1, 3); give(1, 3) }, []int64{1, 3, 4}, time.Second},
		{"when their turns are over", func(_ *luaServer, _ *Limiter, give func(...int64)) {
			time.Sleep(2500 * time.Millisecond)
			give(1, 2)
		}, []int64{4, 5, 6}, 1500 * time.Millisecond},
		{"all, and then nobody asks", func(_ *luaServer, _ *Limiter, give func(...int64)) {
			give(1, 2, 3)
			time.Sleep(2300 * time.Millisecond)
		}, []int64{1, 2, 3}, 0},
		{"those of a state that is lost", func(s *luaServer, l *Limiter, give func(...int64)) {
			time.Sleep(time.Second)
			clear(s.values)
			if _, _, err := l.book(context.Background(), 0, nil, []int64{patient, patient, patient}); err != nil {
				t.Error(err)
			}
			give(1, 2)
		}, []int64{3, 4, 5}, 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				server := newLuaServer()
				l := &Limiter{Redis: server.client(0), Key: "k", Requests: 1, Per: time.Second}
				s, _, err := l.book(t.Context(), 0, nil, []int64{patient, patient, patient, patient})
				if err != nil {
					t.Fatal(err)
				}
				test.given(server, l, func(tickets ...int64) {
					if _, _, err := l.book(t.Context(), s.gen, tickets, nil); err != nil {
						t.Error(err)
					}
				})
				s, got, err := l.book(t.Context(), s.gen, nil, []int64{patient, patient, patient})
				if err != nil || !slices.Equal(got, test.want) || time.Until(s.turn(got[0])) != test.wantTurn {
					t.Errorf("tickets %v, the first in %s, %v; want %v, in %s", got, time.Until(s.turn(got[0])), err, test.want, test.wantTurn)
				}
			})
		})
	}
}

// A clock that is set back moves all times of a state: nothing that the script says afterwards differs.
func TestAClockSetBackChangesNothingThatWasLearned(t *testing.T) {
	said := func(setBackAt int) (replies []string) {
		bubble(t, func(t *testing.T) {
			server := newLuaServer()
			d := &driver{t: t, l: &Limiter{Redis: server.client(0), Key: "k"}}
			for i := range 240 {
				if i == setBackAt {
					server.skew = -time.Hour
				}
				switch i {
				case 0:
					d.refuse(0)
				case 30:
					d.refuse(40 * time.Second)
				default:
					d.turns(1)
				}
				replies = append(replies, fmt.Sprint(d.s.lesson, time.Until(d.s.at), d.s.from, d.s.space, d.s.again))
			}
		})
		return replies
	}
	want := said(-1)
	for _, setBackAt := range []int{1, 2, 20, 31, 32, 45, 200} {
		got := said(setBackAt)
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("set back before step %d: in step %d it says %s, want %s", setBackAt, i, got[i], want[i])
				break
			}
		}
	}
}
