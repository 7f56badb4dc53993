package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/ovhauth/redislimit"
)

// redisServer is a redis-server of this program's own. It keeps nothing on disk.
type redisServer struct {
	cmd         *exec.Cmd
	dir, socket string
	client      *redis.Client
}

func startRedis() (*redisServer, error) {
	dir, err := os.MkdirTemp("", "fleet")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "redis.sock")
	cmd := exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", dir, "--logfile", "")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("fleet: it needs redis-server, of Debian's package of that name: %w", err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "eady to accept connections") {
			break
		}
	}
	return &redisServer{cmd, dir, socket, redis.NewClient(&redis.Options{Network: "unix", Addr: socket})}, nil
}

func (s *redisServer) stop() {
	s.client.Close()
	s.cmd.Process.Kill()
	s.cmd.Wait()
	os.RemoveAll(s.dir)
}

// cpu returns what Redis has used so far.
func (s *redisServer) cpu() (used time.Duration, err error) {
	info, err := s.client.Info(context.Background(), "cpu").Result()
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, err
			}
			used += time.Duration(seconds * float64(time.Second))
		}
	}
	return used, err
}

// road is the connection from a pod to Redis. It delays the commands, and counts them.
type road struct {
	distance time.Duration
	trips    *atomic.Int64
}

func (r road) DialHook(next redis.DialHook) redis.DialHook { return next }
func (r road) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.trips.Add(1)
		time.Sleep(r.distance)
		return next(ctx, cmd)
	}
}
func (r road) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (s *redisServer) pod(distance time.Duration, trips *atomic.Int64) *redis.Client {
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket, PoolSize: 8})
	c.Ping(context.Background()) // it is connected before the clock starts
	c.AddHook(road{distance, trips})
	return c
}

// result is what came of a setting.
type result struct {
	setting
	turns, most int
	used        float64       // of what was asked for and allowed
	share       float64       // of the far pods, of what an equal one would be
	trips       float64       // a turn
	cpu         time.Duration // a turn
}

const near = 200 * time.Microsecond

func measure(server *redisServer, s setting, during time.Duration) (result, error) {
	var trips atomic.Int64
	var pods []*redislimit.Limiter
	for i := range s.pods {
		distance := near
		if i < s.far {
			distance += s.distance
		}
		c := server.pod(distance, &trips)
		defer c.Close()
		pods = append(pods, &redislimit.Limiter{Redis: c, Key: s.String(), Requests: s.requests, Per: time.Second})
	}
	cpuBefore, err := server.cpu()
	if err != nil {
		return result{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), during)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	at := make([][]time.Time, s.pods)
	for i, l := range pods {
		for range s.goroutines {
			wg.Go(func() {
				time.Sleep(rand.N(s.every + 1)) // not all at once
				for l.Wait(ctx) == nil {
					mu.Lock()
					at[i] = append(at[i], time.Now())
					mu.Unlock()
					if s.every > 0 {
						time.Sleep(s.every)
					}
				}
			})
		}
	}
	wg.Wait()
	cpuAfter, err := server.cpu()
	if err != nil {
		return result{}, err
	}
	all := slices.Concat(at...)
	wanted := float64(s.requests) * during.Seconds()
	if s.every > 0 {
		wanted = min(wanted, float64(s.pods*s.goroutines)*during.Seconds()/s.every.Seconds())
	}
	r := result{setting: s, turns: len(all), most: most(all, time.Second), used: float64(len(all)) / wanted}
	r.trips = float64(trips.Load()) / float64(r.turns)
	r.cpu = (cpuAfter - cpuBefore) / time.Duration(r.turns)
	if s.far > 0 {
		r.share = float64(len(slices.Concat(at[:s.far]...))) / float64(s.far) / (float64(r.turns) / float64(s.pods))
	}
	return r, nil
}

// most returns how many of the times fall into the fullest half-open window of this length.
func most(at []time.Time, window time.Duration) (n int) {
	slices.SortFunc(at, time.Time.Compare)
	first := 0
	for i := range at {
		for at[i].Sub(at[first]) >= window {
			first++
		}
		n = max(n, i-first+1)
	}
	return n
}
