package redislimit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	lua "github.com/yuin/gopher-lua"
)

// luaServer is a Redis that can do what limit.lua asks of it, and runs that very script, by the time of a synctest bubble.
type luaServer struct {
	mu     sync.Mutex
	state  *lua.LState
	script *lua.LFunction
	values map[string]value
	skew   time.Duration // of its clock
	asked  atomic.Int64
}

type value struct {
	text  string
	until time.Time
}

func newLuaServer() *luaServer {
	r := &luaServer{state: lua.NewState(), values: map[string]value{}}
	call := r.state.NewFunction(func(l *lua.LState) int {
		l.Push(r.call(l))
		return 1
	})
	table := r.state.NewTable()
	table.RawSetString("call", call)
	table.RawSetString("pcall", call)
	r.state.SetGlobal("redis", table)
	var err error
	if r.script, err = r.state.LoadString(limitScript); err != nil {
		panic(err)
	}
	return r
}

func (r *luaServer) call(l *lua.LState) lua.LValue {
	key := l.ToString(2)
	switch command := l.ToString(1); command {
	case "TIME":
		t, now := l.NewTable(), time.Now().Add(r.skew).UnixMicro()
		t.Append(lua.LString(strconv.FormatInt(now/1e6, 10)))
		t.Append(lua.LString(strconv.FormatInt(now%1e6, 10)))
		return t
	case "GET":
		if v, ok := r.values[key]; ok && time.Now().Before(v.until) {
			return lua.LString(v.text)
		}
		return lua.LFalse
	case "SET":
		r.values[key] = value{l.ToString(3), time.Now().Add(time.Duration(l.ToInt64(5)) * time.Millisecond)}
		return lua.LTrue
	case "DEL":
		delete(r.values, key)
		return lua.LTrue
	default:
		panic(command)
	}
}

// change does something to the server between two commands.
func (r *luaServer) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// client is one machine's connection to the server; a command takes so long there and back.
func (r *luaServer) client(latency time.Duration) *luaClient {
	return &luaClient{server: r, latency: latency}
}

type luaClient struct {
	redis.UniversalClient
	server  *luaServer
	latency time.Duration
	err     error // in place of the server; changed under the server's lock
}

func (c *luaClient) Eval(ctx context.Context, _ string, keys []string, args ...any) *redis.Cmd {
	time.Sleep(c.latency / 2)
	defer time.Sleep(c.latency / 2)
	r, cmd := c.server, redis.NewCmd(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked.Add(1)
	if c.err != nil {
		cmd.SetErr(c.err)
		return cmd
	}
	list := func(values []any) *lua.LTable {
		t := r.state.NewTable()
		for _, v := range values {
			t.Append(lua.LString(fmt.Sprint(v)))
		}
		return t
	}
	r.state.SetGlobal("KEYS", list([]any{keys[0]}))
	r.state.SetGlobal("ARGV", list(args))
	if err := r.state.CallByParam(lua.P{Fn: r.script, NRet: 1, Protect: true}); err != nil {
		cmd.SetErr(err)
		return cmd
	}
	var numbers []any
	r.state.Get(-1).(*lua.LTable).ForEach(func(_, v lua.LValue) { numbers = append(numbers, int64(v.(lua.LNumber))) })
	r.state.Pop(1)
	cmd.SetVal(numbers)
	return cmd
}

var errRefused = errors.New("dial tcp 127.0.0.1:6379: connect: connection refused")
