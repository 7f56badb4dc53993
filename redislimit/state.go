package redislimit

import (
	"runtime"
	"sync"
	"weak"
)

// states has the state of each K by its address. It stands outside of K, so that a K is nothing but its fields: it can be printed
// and copied like any struct, and a copy is one of its own. The zero value is ready.
type states[K, V any] struct{ byAddress sync.Map }

func (s *states[K, V]) of(k *K) *V {
	address := weak.Make(k)
	v, known := s.byAddress.Load(address)
	if !known {
		if v, known = s.byAddress.LoadOrStore(address, new(V)); !known {
			runtime.AddCleanup(k, func(gone weak.Pointer[K]) { s.byAddress.Delete(gone) }, address)
		}
	}
	return v.(*V)
}
