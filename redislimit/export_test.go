package redislimit

// LockLife is how long a machine that was killed holds the others up.
const LockLife = lockLife
