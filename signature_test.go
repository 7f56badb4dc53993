package ovhauth_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/ovhauth"
)

// The credentials of these vectors are revoked ones, which the official clients' tests share; the last set is made up.
var (
	shared  = ovhauth.Credentials{ApplicationKey: "TDPKJdwZwAQPwKX2", ApplicationSecret: "9ufkBmLaTQ9nz5yMUlg79taH0GNnzDjk", ConsumerKey: "5mBuy6SUQcRw2ZUxg0cG68BoDKpED4KY"}
	encoded = ovhauth.Credentials{ApplicationKey: "APPLICATION_KEY", ApplicationSecret: "APPLICATION_SECRET", ConsumerKey: "CONSUMER_KEY"}
)

var vectors = []struct {
	keys              ovhauth.Credentials
	at                int64
	method, url, body string
	want              string
}{
	{shared, 1457018875, "GET", "https://eu.api.ovh.com/1.0/auth", "", "$1$e9556054b6309771395efa467c22e627407461ad"},
	{shared, 1457018875, "POST", "https://eu.api.ovh.com/1.0/auth", `{"a":"b","c":"d"}`, "$1$ec2fb5c7a81f64723c77d2e5b609ae6f58a84fc1"},
	{shared, 1457018875, "PUT", "https://eu.api.ovh.com/1.0/auth", `{"a":"b","c":"d"}`, "$1$8a75a9e7c8e7296c9dbeda6a2a735eb6bd58ec4b"},
	{shared, 1457018875, "DELETE", "https://eu.api.ovh.com/1.0/auth", "", "$1$a1eecd00b3b02b6cf5708b84b9ff42059a950d85"},
	{shared, 1457018875, "GET", "https://eu.api.ovh.com/1.0/authTO", "", "$1$1f0958be70f095ddaba525778a9ac1dcffac89f3"},
	{shared, 1457018875, "POST", "https://eu.api.ovh.com/1.0/authTO", `{"a":"b","c":"d"}`, "$1$b592effcb3bc2d37860eceb06a1b17670fbe49c6"},
	{shared, 1457018875, "PUT", "https://eu.api.ovh.com/1.0/authTO", `{"a":"b","c":"d"}`, "$1$6b27c2a693a0eb4980217046b2fe10d74ba796f0"},
	{shared, 1457018875, "DELETE", "https://eu.api.ovh.com/1.0/authTO", "", "$1$bd59b15361548c388058009e00c508081e991e8b"},
	{shared, 1457018875, "GET", "https://eu.api.ovh.com/1.0/call", "", "$1$7f2db49253edfc41891023fcd1a54cf61db05fbb"},
	{shared, 1457018875, "GET", "https://eu.api.ovh.com/v1/call", "", "$1$e6e7906d385eb28adcbfbe6b66c1528a42d741ad"},
	{shared, 1457018875, "GET", "https://eu.api.ovh.com/v2/call", "", "$1$bb63b132a6f84ad5433d0c534d48d3f7c3804285"},
	{encoded, 1566485767, "GET", "https://eu.api.ovh.com/1.0/route?filter=value%3a%26%c3%a9%27-&anotherfilter=%3dtest", "", "$1$098b93d342b6db4848ec448063be2b6884e94723"},
	{encoded, 1566485767, "GET", "https://eu.api.ovh.com/1.0/route?filter=value%3A%26%C3%A9%27-&anotherfilter=%3Dtest", "", "$1$0ab89920466ce4e3535a4345cab5f4ce3108da26"},
}

func TestSignVectors(t *testing.T) {
	for _, v := range vectors {
		if got := ovhauth.Sign(v.keys, v.method, v.url, []byte(v.body), time.Unix(v.at, 0)); got != v.want {
			t.Errorf("Sign(%s %s) = %s, want %s", v.method, v.url, got, v.want)
		}
	}
}

// The same vectors, as a server at the other end of a socket receives them.
func TestVectorsOnTheWire(t *testing.T) {
	wire := newWire(t)
	for _, v := range vectors {
		transport := &ovhauth.Transport{
			Endpoint:    ovhauth.EU,
			Credentials: v.keys,
			Clock:       ovhauth.ClockFunc(func() time.Time { return time.Unix(v.at, 0) }),
			Base:        wire.base,
		}
		absolute := v.url
		relative, _ := strings.CutPrefix(strings.Replace(v.url, "/1.0", "", 1), "https://eu.api.ovh.com")
		for _, url := range []string{absolute, relative} {
			var body io.Reader
			if v.body != "" {
				body = strings.NewReader(v.body)
			}
			req, err := http.NewRequest(v.method, url, body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			got := <-wire.arrived
			if h := got.header; h.Get("X-Ovh-Signature") != v.want || h.Get("X-Ovh-Timestamp") != fmt.Sprint(v.at) ||
				h.Get("X-Ovh-Application") != v.keys.ApplicationKey || h.Get("X-Ovh-Consumer") != v.keys.ConsumerKey {
				t.Errorf("%s %s arrived with %v, want signature %s", v.method, url, h, v.want)
			}
			if got.url() != absolute || got.body != v.body {
				t.Errorf("%s %s arrived as %s with body %q", v.method, url, got.url(), got.body)
			}
		}
	}
}

func ExampleSign() {
	keys := ovhauth.Credentials{
		ApplicationKey:    "TDPKJdwZwAQPwKX2",
		ApplicationSecret: "9ufkBmLaTQ9nz5yMUlg79taH0GNnzDjk",
		ConsumerKey:       "5mBuy6SUQcRw2ZUxg0cG68BoDKpED4KY",
	}
	now := time.Unix(1457018875, 0)
	fmt.Println("X-Ovh-Timestamp:", now.Unix())
	fmt.Println("X-Ovh-Signature:", ovhauth.Sign(keys, "GET", "https://eu.api.ovh.com/1.0/auth", nil, now))
	// Output:
	// X-Ovh-Timestamp: 1457018875
	// X-Ovh-Signature: $1$e9556054b6309771395efa467c22e627407461ad
}
