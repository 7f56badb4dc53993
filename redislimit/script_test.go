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

// luaServer is a Redis that can do what this package asks of it, and runs its very scripts, by the time of a synctest bubble.
type luaServer struct {
	mu      sync.Mutex
	state   *lua.LState
	scripts map[string]*lua.LFunction
	values  map[string]value
	skew    time.Duration // of its clock
	asked   atomic.Int64
}

type value struct {
	text  string
	until time.Time
}

func newLuaServer() *luaServer {
	r := &luaServer{state: lua.NewState(), scripts: map[string]*lua.LFunction{}, values: map[string]value{}}
	call := r.state.NewFunction(func(l *lua.LState) int {
		l.Push(r.call(l))
		return 1
	})
	table := r.state.NewTable()
	table.RawSetString("call", call)
	table.RawSetString("pcall", call)
	r.state.SetGlobal("redis", table)
	return r
}

func (r *luaServer) call(l *lua.LState) lua.LValue {
	key := l.ToString(2)
	text, left := r.get(key)
	switch command := l.ToString(1); command {
	case "TIME":
		t, now := l.NewTable(), time.Now().Add(r.skew).UnixMicro()
		t.Append(lua.LString(strconv.FormatInt(now/1e6, 10)))
		t.Append(lua.LString(strconv.FormatInt(now%1e6, 10)))
		return t
	case "GET":
		if left > 0 {
			return lua.LString(text)
		}
		return lua.LFalse
	case "PTTL":
		return lua.LNumber(left.Milliseconds())
	case "SET":
		r.set(key, l.ToString(3), time.Duration(l.ToInt64(5))*time.Millisecond)
		return lua.LTrue
	case "DEL":
		delete(r.values, key)
		return lua.LNumber(1)
	default:
		panic(command)
	}
}

// get returns what a key has, and for how long: not at all, if that is 0.
func (r *luaServer) get(key string) (text string, left time.Duration) {
	v := r.values[key]
	if left = max(0, time.Until(v.until)); left > 0 {
		text = v.text
	}
	return text, left
}

func (r *luaServer) set(key, text string, life time.Duration) {
	r.values[key] = value{text, time.Now().Add(life)}
}

func (r *luaServer) eval(script, key string, args []any) (any, error) {
	f, known := r.scripts[script]
	if !known {
		var err error
		if f, err = r.state.LoadString(script); err != nil {
			return nil, err
		}
		r.scripts[script] = f
	}
	list := func(values []any) *lua.LTable {
		t := r.state.NewTable()
		for _, v := range values {
			t.Append(lua.LString(fmt.Sprint(v)))
		}
		return t
	}
	r.state.SetGlobal("KEYS", list([]any{key}))
	r.state.SetGlobal("ARGV", list(args))
	if err := r.state.CallByParam(lua.P{Fn: f, NRet: 1, Protect: true}); err != nil {
		return nil, err
	}
	defer r.state.Pop(1)
	if number, ok := r.state.Get(-1).(lua.LNumber); ok {
		return int64(number), nil
	}
	var numbers []any
	r.state.Get(-1).(*lua.LTable).ForEach(func(_, v lua.LValue) { numbers = append(numbers, int64(v.(lua.LNumber))) })
	return numbers, nil
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

// visit is one round trip: f is called at the server, or with what is wrong with the way there.
func (c *luaClient) visit(f func(r *luaServer, err error)) {
	time.Sleep(c.latency / 2)
	c.server.change(func() {
		c.server.asked.Add(1)
		f(c.server, c.err)
	})
	time.Sleep(c.latency / 2)
}

func (c *luaClient) Eval(_ context.Context, script string, keys []string, args ...any) (cmd *redis.Cmd) {
	c.visit(func(r *luaServer, err error) {
		var reply any
		if err == nil {
			reply, err = r.eval(script, keys[0], args)
		}
		cmd = redis.NewCmdResult(reply, err)
	})
	return cmd
}

func (c *luaClient) Set(_ context.Context, key string, text any, life time.Duration) *redis.StatusCmd {
	cmd := redis.NewStatusResult("OK", nil)
	c.visit(func(r *luaServer, err error) {
		if cmd.SetErr(err); err == nil {
			r.set(key, text.(string), life)
		}
	})
	return cmd
}

func (c *luaClient) Pipelined(_ context.Context, f func(redis.Pipeliner) error) (cmds []redis.Cmder, err error) {
	c.visit(func(r *luaServer, trouble error) { err = f(luaPipe{server: r, err: trouble}) })
	return nil, err
}

type luaPipe struct {
	redis.Pipeliner
	server *luaServer
	err    error
}

func (p luaPipe) Get(_ context.Context, key string) *redis.StringCmd {
	text, left := p.server.get(key)
	err := p.err
	if err == nil && left == 0 {
		err = redis.Nil
	}
	return redis.NewStringResult(text, err)
}

func (p luaPipe) PTTL(_ context.Context, key string) *redis.DurationCmd {
	_, left := p.server.get(key)
	return redis.NewDurationResult(left, p.err)
}

var errRefused = errors.New("dial tcp 127.0.0.1:6379: connect: connection refused")
