//go:build linux

package redislimit_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/ovhauth"
	"example.com/ovhauth/redislimit"
)

// startCluster starts a cluster of three nodes without replicas.
func startCluster(t *testing.T) (addrs []string) {
	t.Helper()
	const nodes, slots = 3, 16384
	var clients []*redis.Client
	for range nodes {
		s := startOnPort(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf")
		addrs, clients = append(addrs, s.addr), append(clients, s.client())
	}
	for i, c := range clients {
		if err := c.ClusterAddSlotsRange(t.Context(), i*slots/nodes, (i+1)*slots/nodes-1).Err(); err != nil {
			t.Fatal(err)
		}
		if err := c.Do(t.Context(), "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			t.Fatal(err)
		}
		host, port, _ := net.SplitHostPort(addrs[0])
		if err := c.ClusterMeet(t.Context(), host, port).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range clients {
		eventually(t, func() error {
			info, err := c.Do(t.Context(), "CLUSTER", "INFO").Text()
			if err == nil && info[:16] != "cluster_state:ok" {
				err = errors.New(info)
			}
			return err
		})
	}
	return addrs
}

func TestACluster(t *testing.T) {
	addrs := startCluster(t)
	all := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs})
	defer all.Close()
	for i := range 12 { // on all nodes
		if n := takeAll(t, hourly(all, fmt.Sprint("quota ", i), 3)); n != 3 {
			t.Errorf("quota %d: %d turns, want 3", i, n)
		}
	}
	useAll(t, all)
}

func TestTheMinimalACLIsEnoughInACluster(t *testing.T) {
	addrs := startCluster(t)
	for _, addr := range addrs {
		args := []any{"ACL", "SETUSER", "ovhauth"}
		for _, word := range minimalACL(t) {
			args = append(args, word)
		}
		args = append(args, "+cluster|slots", "+cluster|shards", "+readonly")
		c := connect(addr)
		defer c.Close()
		if err := c.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limited := redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, Username: "ovhauth", Password: "password"})
	defer limited.Close()
	useAll(t, limited)
}

// When a master dies and a replica takes its place, callers with time left lose nothing, and the limit stays.
func TestASentinelFailsOver(t *testing.T) {
	master := startOnPort(t, "--repl-diskless-sync-delay", "0")
	host, port, _ := net.SplitHostPort(master.addr)
	replica := startOnPort(t, "--replicaof", host+" "+port)
	eventually(t, func() error {
		role, err := replica.client().Do(t.Context(), "ROLE").Slice()
		if err == nil && role[3] != "connected" {
			err = fmt.Errorf("the replica's role: %v", role)
		}
		return err
	})
	sentinel := freePort(t)
	dir := newDir(t)
	conf := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("port %s\nbind 127.0.0.1\nsentinel monitor main %s %s 1\nsentinel down-after-milliseconds main 500\n"+
		"sentinel failover-timeout main 2000\n", sentinel, host, port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "redis-sentinel", dir, "127.0.0.1:"+sentinel, conf)
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "main", SentinelAddrs: []string{"127.0.0.1:" + sentinel}})
	defer rdb.Close()
	eventually(t, func() error { // the sentinel has found the replica
		found, err := redis.NewSentinelClient(&redis.Options{Addr: "127.0.0.1:" + sentinel}).Replicas(t.Context(), "main").Result()
		if err == nil && len(found) == 0 {
			err = errors.New("the sentinel does not know the replica")
		}
		return err
	})

	l := &redislimit.Limiter{Redis: rdb, Key: "k", Requests: 5, Per: time.Second}
	provider := &source{}
	c := machine(rdb, provider)
	began := time.Now()
	for i := range 20 {
		if i == 5 {
			master.kill()
		}
		if err := l.Wait(hurry(t)); err != nil {
			t.Fatalf("turn %d: %v", i, err)
		}
		retrieve(t, c, "hunter2-1")
	}
	if took := time.Since(began); took < 3800*time.Millisecond {
		t.Errorf("20 turns at 5 a second took %s, want 3.8 s or more", took)
	}
	c.Invalidate(ovhauth.Credentials{AccessToken: "hunter2-1"})
	retrieve(t, c, "hunter2-2") // written to the new master
	if role := must[[]any](t)(replica.client().Do(t.Context(), "ROLE").Slice()); role[0] != "master" {
		t.Errorf("the replica is %v, want master", role[0])
	}
}
