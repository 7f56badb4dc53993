package main

import (
	"math"
	"time"
)

// A quota decides on one request at a time, and says how long a rejected one would have to wait.
type quota interface {
	take(now time.Time) (ok bool, after time.Duration)
	scale(f float64) // the quota rises or falls
}

// Q describes a quota: N requests per Per. Kind is "fixed", "sliding", "punish" (sliding, rejections count), or "bucket" (of size
// Burst, else N). Phase is how much of its first window is over when a fixed window's first request comes.
type Q struct {
	Kind  string
	N     float64
	Per   time.Duration
	Burst float64
	Phase time.Duration
}

func (q Q) make() quota {
	switch q.Kind {
	case "fixed":
		return &fixed{n: q.N, per: q.Per, start: time.Now().Add(-q.Phase)}
	case "sliding", "punish":
		return &sliding{n: q.N, per: q.Per, punish: q.Kind == "punish"}
	case "bucket":
		size := q.Burst
		if size == 0 {
			size = q.N
		}
		return &bucket{rate: q.N / q.Per.Seconds(), size: size, tokens: size, last: time.Now()}
	}
	return free{}
}

type free struct{}

func (free) take(time.Time) (bool, time.Duration) { return true, 0 }
func (free) scale(float64)                        {}

type fixed struct {
	n, used float64
	per     time.Duration
	start   time.Time
	win     int64
}

func (q *fixed) scale(f float64) { q.n *= f }
func (q *fixed) take(now time.Time) (bool, time.Duration) {
	if w := int64(now.Sub(q.start) / q.per); w != q.win {
		q.win, q.used = w, 0
	}
	if q.used < q.n {
		q.used++
		return true, 0
	}
	return false, q.start.Add(time.Duration(q.win+1) * q.per).Sub(now)
}

type sliding struct {
	n      float64
	per    time.Duration
	punish bool
	log    []time.Time
}

func (q *sliding) scale(f float64) { q.n *= f }
func (q *sliding) take(now time.Time) (bool, time.Duration) {
	for len(q.log) > 0 && now.Sub(q.log[0]) >= q.per {
		q.log = q.log[1:]
	}
	ok := float64(len(q.log)) < q.n
	if ok || q.punish {
		q.log = append(q.log, now)
	}
	if ok {
		return true, 0
	}
	return false, q.per - now.Sub(q.log[max(0, len(q.log)-int(q.n))])
}

type bucket struct {
	rate, size, tokens float64
	last               time.Time
}

func (q *bucket) scale(f float64) { q.rate *= f; q.size = max(1, q.size*f) }
func (q *bucket) take(now time.Time) (bool, time.Duration) {
	q.tokens = math.Min(q.size, q.tokens+now.Sub(q.last).Seconds()*q.rate)
	q.last = now
	if q.tokens >= 1-1e-9 {
		q.tokens--
		return true, 0
	}
	return false, time.Duration(math.Ceil((1 - q.tokens) / q.rate * 1e9))
}
