package ovhauth

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
)

// A file on a network file system that is gone blocks whoever opens it. So does, for a while, one on which another process has a
// lease.
func TestReadingEndsWithTheContext(t *testing.T) {
	f := isolate(t)
	write(t, f.home, keysEU)
	file, err := os.OpenFile(f.home, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const setLease = 1024 // F_SETLEASE
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, file.Fd(), setLease, syscall.F_WRLCK); errno != 0 {
		t.Skipf("no leases here: %v", errno)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err = FileCredentials(EU, f.home).Retrieve(&hookedContext{Context: ctx, onDone: cancel}) // when it waits
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	syscall.Syscall(syscall.SYS_FCNTL, file.Fd(), setLease, syscall.F_UNLCK)
}
