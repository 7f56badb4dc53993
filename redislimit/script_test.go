package redislimit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	lua "github.com/yuin/gopher-lua"
)

// luaRedis is a Redis that can do what limit.lua asks of it, by the time of a synctest bubble: it runs the very script.
type luaRedis struct {
	redis.UniversalClient
	mu      sync.Mutex
	state   *lua.LState
	script  *lua.LFunction
	values  map[string]value
	asked   int
	latency time.Duration
}

type value struct {
	text  string
	until time.Time
}

func newLuaRedis() *luaRedis {
	r := &luaRedis{state: lua.NewState(), values: map[string]value{}}
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

func (r *luaRedis) call(l *lua.LState) lua.LValue {
	key := l.ToString(2)
	switch command := l.ToString(1); command {
	case "TIME":
		t, now := l.NewTable(), time.Now().UnixMicro()
		t.Append(lua.LString(fmt.Sprint(now / 1e6)))
		t.Append(lua.LString(fmt.Sprint(now % 1e6)))
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

func (r *luaRedis) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	time.Sleep(r.latency / 2)
	defer time.Sleep(r.latency / 2)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	list := func(values []any) *lua.LTable {
		t := r.state.NewTable()
		for _, v := range values {
			t.Append(lua.LString(fmt.Sprint(v)))
		}
		return t
	}
	r.state.SetGlobal("KEYS", list([]any{keys[0]}))
	r.state.SetGlobal("ARGV", list(args))
	cmd := redis.NewCmd(ctx)
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
