package redislimit

import "time"

// SetPatience shortens what one waits for other machines, and returns what undoes that.
func SetPatience(d time.Duration) (undo func()) {
	old := patience
	patience = d
	return func() { patience = old }
}

// LockLife is how long a machine that was killed holds the others up.
const LockLife = lockLife
