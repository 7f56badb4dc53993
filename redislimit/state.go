package redislimit

import (
	"runtime"
	"sync"
	"weak"
)

// states keeps the state of each K under the address of that K. The state is not a field, so that a K can be printed and copied
// like any struct; a copy has a state of its own. The zero value is ready.
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
