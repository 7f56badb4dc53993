package main

import "time"

const minute = time.Minute

func perMin(kind string, n float64) Q { return Q{Kind: kind, N: n, Per: minute} }
func perSec(kind string, n float64) Q { return Q{Kind: kind, N: n, Per: time.Second} }

// Scenarios is the table that a change is judged by.
var Scenarios = []Scenario{
	// nothing to learn
	{Name: "no quota", Quota: Q{}, Calls: 5000},
	{Name: "60/min fixed, 50 calls: never reached", Quota: perMin("fixed", 60), Calls: 50},
	{Name: "no quota, one 429 out of the blue at #1000", SpuriousAt: 1000, Calls: 64000},
	{Name: "no quota, one 429 out of the blue at #1000, RA absent", SpuriousAt: 1000, Calls: 64000, RetryAfter: Absent},
	{Name: "no quota, one 429 at #1", SpuriousAt: 1, Calls: 64000, RetryAfter: Absent},

	// 60 a minute: what OVHcloud is said to have
	{Name: "60/min fixed", Quota: perMin("fixed", 60)},
	{Name: "60/min fixed, unaligned", Quota: Q{Kind: "fixed", N: 60, Per: minute, Phase: 37 * time.Second}},
	{Name: "60/min fixed, RA absent", Quota: perMin("fixed", 60), RetryAfter: Absent},
	{Name: "60/min fixed, unaligned, RA absent", Quota: Q{Kind: "fixed", N: 60, Per: minute, Phase: 37 * time.Second}, RetryAfter: Absent},
	{Name: "60/min fixed, RA nearest", Quota: perMin("fixed", 60), RetryAfter: Nearest},
	{Name: "60/min fixed, RA half", Quota: perMin("fixed", 60), RetryAfter: Short},
	{Name: "60/min fixed, RA always 1", Quota: perMin("fixed", 60), RetryAfter: One},
	{Name: "60/min sliding", Quota: perMin("sliding", 60)},
	{Name: "60/min sliding, RA absent", Quota: perMin("sliding", 60), RetryAfter: Absent},
	{Name: "60/min sliding, RA half", Quota: perMin("sliding", 60), RetryAfter: Short},
	{Name: "60/min sliding, RA always 1", Quota: perMin("sliding", 60), RetryAfter: One},
	{Name: "60/min sliding, rejections count", Quota: perMin("punish", 60)},
	{Name: "60/min sliding, rejections count, RA absent", Quota: perMin("punish", 60), RetryAfter: Absent},
	{Name: "60/min bucket of 60", Quota: perMin("bucket", 60)},
	{Name: "60/min bucket of 60, RA absent", Quota: perMin("bucket", 60), RetryAfter: Absent},
	{Name: "60/min bucket of 5, RA absent", Quota: Q{Kind: "bucket", N: 60, Per: minute, Burst: 5}, RetryAfter: Absent},

	// other quotas
	{Name: "5/min fixed", Quota: perMin("fixed", 5)},
	{Name: "5/min fixed, RA absent", Quota: perMin("fixed", 5), RetryAfter: Absent},
	{Name: "5/min sliding, RA absent", Quota: perMin("sliding", 5), RetryAfter: Absent},
	{Name: "5/min bucket of 5", Quota: perMin("bucket", 5)},
	{Name: "400/min fixed, 4000 calls", Quota: perMin("fixed", 400), Calls: 4000},
	{Name: "400/min fixed, 4000 calls, RA absent", Quota: perMin("fixed", 400), Calls: 4000, RetryAfter: Absent},
	{Name: "6000/min fixed, 64000 calls", Quota: perMin("fixed", 6000), Calls: 64000},
	{Name: "6000/min sliding, 64000 calls, RA absent", Quota: perMin("sliding", 6000), Calls: 64000, RetryAfter: Absent},
	{Name: "10/s fixed", Quota: perSec("fixed", 10)},
	{Name: "10/s fixed, RA absent", Quota: perSec("fixed", 10), RetryAfter: Absent},
	{Name: "20/s sliding, 2000 calls", Quota: perSec("sliding", 20), Calls: 2000},
	{Name: "20/s sliding, 2000 calls, RA absent", Quota: perSec("sliding", 20), Calls: 2000, RetryAfter: Absent},
	{Name: "20/s bucket of 20, 2000 calls", Quota: perSec("bucket", 20), Calls: 2000},
	{Name: "20/s bucket of 5, 2000 calls", Quota: Q{Kind: "bucket", N: 20, Per: time.Second, Burst: 5}, Calls: 2000},
	{Name: "100/s fixed, 10000 calls", Quota: perSec("fixed", 100), Calls: 10000},
	{Name: "100/s bucket of 10, 10000 calls", Quota: Q{Kind: "bucket", N: 100, Per: time.Second, Burst: 10}, Calls: 10000},
	{Name: "100/s bucket of 10, 10000 calls, RA absent", Quota: Q{Kind: "bucket", N: 100, Per: time.Second, Burst: 10}, Calls: 10000, RetryAfter: Absent},

	// latency, and how many call
	{Name: "60/min sliding, 5 ms", Quota: perMin("sliding", 60), Latency: 5 * time.Millisecond, Jitter: 0.5},
	{Name: "60/min fixed, 500 ms ±80 %", Quota: perMin("fixed", 60), Latency: 500 * time.Millisecond, Jitter: 0.8, RetryAfter: Absent},
	{Name: "100/s fixed, 500 ms ±80 %, 512 goroutines, 20000 calls", Quota: perSec("fixed", 100), Latency: 500 * time.Millisecond, Jitter: 0.8, Workers: 512, Calls: 20000},
	{Name: "60/min fixed, 1 goroutine", Quota: perMin("fixed", 60), Workers: 1},
	{Name: "60/min sliding, 1 goroutine, RA absent", Quota: perMin("sliding", 60), Workers: 1, RetryAfter: Absent},
	{Name: "60/min fixed, 8 goroutines", Quota: perMin("fixed", 60), Workers: 8, Jitter: 0.5},
	{Name: "60/min fixed, 512 goroutines, 3000 calls", Quota: perMin("fixed", 60), Workers: 512, Calls: 3000, Jitter: 0.5},
	{Name: "60/min sliding, 512 goroutines, 3000 calls, RA absent", Quota: perMin("sliding", 60), Workers: 512, Calls: 3000, RetryAfter: Absent},
	{Name: "60/min fixed, 64000 calls", Quota: perMin("fixed", 60), Calls: 64000},
	{Name: "60/min sliding, 64000 calls, RA absent", Quota: perMin("sliding", 60), Calls: 64000, RetryAfter: Absent},
	{Name: "60/min bucket, 64000 calls, RA absent", Quota: perMin("bucket", 60), Calls: 64000, RetryAfter: Absent},

	// not alone
	{Name: "60/min fixed, 2 processes", Quota: perMin("fixed", 60), Procs: 2, Workers: 32},
	{Name: "60/min sliding, 2 processes, RA absent", Quota: perMin("sliding", 60), Procs: 2, Workers: 32, RetryAfter: Absent},
	{Name: "60/min fixed, 20 processes × 8", Quota: perMin("fixed", 60), Procs: 20, Workers: 8, Calls: 2000, Jitter: 0.5},
	{Name: "60/min fixed, 20 processes × 8, RA absent", Quota: perMin("fixed", 60), Procs: 20, Workers: 8, Calls: 2000, Jitter: 0.5, RetryAfter: Absent},
	{Name: "60/min sliding, 20 processes × 8, RA absent", Quota: perMin("sliding", 60), Procs: 20, Workers: 8, Calls: 2000, Jitter: 0.5, RetryAfter: Absent},
	{Name: "60/min bucket, 20 processes × 8", Quota: perMin("bucket", 60), Procs: 20, Workers: 8, Calls: 2000, Jitter: 0.5},
	{Name: "60/min sliding, 20 processes × 8, 20000 calls, RA absent", Quota: perMin("sliding", 60), Procs: 20, Workers: 8, Calls: 20000, Jitter: 0.5, RetryAfter: Absent},
	{Name: "5/min bucket of 1, 5 processes, RA absent", Quota: Q{Kind: "bucket", N: 5, Per: minute, Burst: 1}, Procs: 5, Workers: 8, RetryAfter: Absent},
	{Name: "60/min fixed, another client takes half", Quota: perMin("fixed", 60), Other: true},
	{Name: "60/min sliding, another client takes half, RA absent", Quota: perMin("sliding", 60), Other: true, RetryAfter: Absent},
	{Name: "60/min bucket, another client takes half", Quota: perMin("bucket", 60), Other: true},

	// not constant
	{Name: "60/min fixed, halved after 5 min", Quota: perMin("fixed", 60), ChangeAt: 5 * minute, ChangeBy: 0.5},
	{Name: "60/min sliding, halved after 5 min, RA absent", Quota: perMin("sliding", 60), ChangeAt: 5 * minute, ChangeBy: 0.5, RetryAfter: Absent},
	{Name: "60/min fixed, doubled after 5 min, 3000 calls", Quota: perMin("fixed", 60), ChangeAt: 5 * minute, ChangeBy: 2, Calls: 3000},
	{Name: "60/min bucket, doubled after 5 min, 3000 calls, RA absent", Quota: perMin("bucket", 60), ChangeAt: 5 * minute, ChangeBy: 2, Calls: 3000, RetryAfter: Absent},
	{Name: "60/min fixed, 200 calls every 10 min", Quota: perMin("fixed", 60), Calls: 2000, Burst: 200, Idle: 10 * minute},
	{Name: "60/min sliding, 30 calls every 2 min, RA absent", Quota: perMin("sliding", 60), Calls: 600, Burst: 30, Idle: 2 * minute, RetryAfter: Absent},
	{Name: "60/min fixed, 70 calls every 2 min", Quota: perMin("fixed", 60), Calls: 1400, Burst: 70, Idle: 2 * minute},

	// no patience: as many succeed as the quota has room for, the others fail at once
	{Name: "60/min fixed, deadline 30 s each", Quota: perMin("fixed", 60), Deadline: 30 * time.Second},
	{Name: "60/min bucket, deadline 30 s each, RA absent", Quota: perMin("bucket", 60), Deadline: 30 * time.Second, RetryAfter: Absent},
	{Name: "60/min fixed, deadline 5 min each", Quota: perMin("fixed", 60), Deadline: 5 * minute},
	{Name: "60/h fixed, no deadline: Retry-After 3600", Quota: Q{Kind: "fixed", N: 60, Per: time.Hour}, Calls: 200, Hopeless: true},
	{Name: "nothing but 429, RA absent, no deadline", Quota: Q{Kind: "fixed", N: 0, Per: minute}, Calls: 200, RetryAfter: Absent, Hopeless: true},

	// what else a request may be
	{Name: "60/min fixed, a third POSTs", Quota: perMin("fixed", 60), Posts: 0.33, RetryAfter: Absent},
	{Name: "60/min sliding, 5 % of GETs 503, a third POSTs", Quota: perMin("sliding", 60), Posts: 0.33, Unavailable: 0.05},
	{Name: "100/s bucket, 5 % of GETs 503, 5000 calls", Quota: perSec("bucket", 100), Unavailable: 0.05, Calls: 5000},
	{Name: "60/min fixed, all of ten routes together", Quota: perMin("fixed", 60), Routes: 10},
	{Name: "60/min fixed on one route of two", RouteQuota: perMin("fixed", 60), Calls: 2000},
	{Name: "60/min bucket on one route of two, RA absent", RouteQuota: perMin("bucket", 60), Calls: 2000, RetryAfter: Absent},
}
