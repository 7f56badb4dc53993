package ovhauth_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/consumerkey"
	"example.com/ovhauth/ovhtest"
)

// These examples show, for each function of two older clients, the line of Go that does it here: lua-ovh-api
// (github.com/yagop/lua-ovh-api) first, then ov6, a Python module.

// echo adds routes whose response is what they were sent.
func echo(server *ovhtest.Server) {
	server.Handle("/domain/zone/{zone}/record/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", r.Method, body)
	}))
}

// show prints a response.
func show(resp *http.Response, err error) {
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body), err)
}

// lua: client = Ovh.client(end_point, api_key, secret_key, consumer_key)
func Example_luaClient() {
	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    "ovh-eu",
		Credentials: ovhauth.Credentials{ApplicationKey: "AK", ApplicationSecret: "AS", ConsumerKey: "CK"},
	}}
	fmt.Println(client.Transport)
	// Output: &ovhauth.Transport{Endpoint:"ovh-eu"}
}

// lua: data = client:request_consumerkey(accessRules)
func Example_luaRequestConsumerkey() {
	server := ovhtest.NewServer()
	defer server.Close()

	data, err := consumerkey.Request(context.Background(), server.Client(), consumerkey.Options{
		Rules: []consumerkey.Rule{{Method: "GET", Path: "/*"}, {Method: "POST", Path: "/*"}, {Method: "PUT", Path: "/*"}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(data.State, data.ConsumerKey != "", data.ValidationURL != "")
	// Output: pendingValidation true true
}

// lua: client:get(path, query)
func Example_luaGet() {
	server := ovhtest.NewServer()
	defer server.Close()
	client := server.Client()

	show(client.Get("/me/api/credential?" + url.Values{"status": {"refused"}}.Encode()))
	// Output: 200 [] <nil>
}

// lua: client:put(path, data)
func Example_luaPut() {
	server := ovhtest.NewServer()
	defer server.Close()
	echo(server)
	client := server.Client()

	req, _ := http.NewRequest("PUT", "/domain/zone/example.ovh/record/1", strings.NewReader(`{"ttl":60}`))
	show(client.Do(req))
	// Output: 200 PUT {"ttl":60} <nil>
}

// lua: client:post(path, data)
func Example_luaPost() {
	server := ovhtest.NewServer()
	defer server.Close()
	echo(server)
	client := server.Client()

	show(client.Post("/domain/zone/example.ovh/record/", "application/json", strings.NewReader(`{"fieldType":"TXT"}`)))
	// Output: 200 POST {"fieldType":"TXT"} <nil>
}

// lua: client:delete(path, data)
func Example_luaDelete() {
	server := ovhtest.NewServer()
	defer server.Close()
	echo(server)
	client := server.Client()

	req, _ := http.NewRequest("DELETE", "/domain/zone/example.ovh/record/1", nil)
	show(client.Do(req))
	// Output: 200 DELETE  <nil>
}

// lua: the names that Ovh.client takes. It takes any other for ovh-eu; here that is an error.
func Example_luaEndpointNames() {
	for _, name := range []string{
		"ovh-eu", "ovh-ca", "kimsufi-eu", "kimsufi-ca", "soyoustart-eu", "soyoustart-ca", "runabove-ca", "ovh-europe",
	} {
		endpoint, err := ovhauth.ParseEndpoint(name)
		fmt.Println(name, endpoint, err != nil)
	}
	// Output:
	// ovh-eu https://eu.api.ovh.com/1.0 false
	// ovh-ca https://ca.api.ovh.com/1.0 false
	// kimsufi-eu https://eu.api.kimsufi.com/1.0 false
	// kimsufi-ca https://ca.api.kimsufi.com/1.0 false
	// soyoustart-eu https://eu.api.soyoustart.com/1.0 false
	// soyoustart-ca https://ca.api.soyoustart.com/1.0 false
	// runabove-ca https://api.runabove.com/1.0 false
	// ovh-europe  true
}

// ov6: get_ovh_timestamp()
func Example_ov6GetOvhTimestamp() {
	server := ovhtest.NewServer()
	defer server.Close()
	server.SetClock(func() time.Time { return time.Unix(1457018875, 0) })

	now, err := ovhauth.ServerTime(context.Background(), server.Client())
	fmt.Println(now.Unix(), err)
	// Output: 1457018875 <nil>
}

// ov6: request_token(app_key, url, POST=[…], GET=[…], PUT=[…], DELETE=[…])
func Example_ov6RequestToken() {
	server := ovhtest.NewServer()
	defer server.Close()
	application := ovhauth.Credentials{ApplicationKey: server.Credentials().ApplicationKey} // no secret is needed
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: application}}

	key, err := consumerkey.Request(context.Background(), client, consumerkey.Options{
		Rules:       append(consumerkey.ReadOnly("/me"), consumerkey.ReadWrite("/domain/zone")...),
		Redirection: "https://app.example/",
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.State)
	// Output: pendingValidation
}

// ov6: sign_request(app_secret, consumer_key, method, query, timestamp, body)
func Example_ov6SignRequest() {
	keys := ovhauth.Credentials{ApplicationSecret: "9ufkBmLaTQ9nz5yMUlg79taH0GNnzDjk", ConsumerKey: "5mBuy6SUQcRw2ZUxg0cG68BoDKpED4KY"}

	fmt.Println(ovhauth.Sign(keys, "POST", "https://eu.api.ovh.com/1.0/auth", []byte(`{"a":"b","c":"d"}`), time.Unix(1457018875, 0)))
	// Output: $1$ec2fb5c7a81f64723c77d2e5b609ae6f58a84fc1
}

// ov6: OVHApi(app_key, app_secret, consumer_key).GET(path)
func Example_ov6GET() {
	server := ovhtest.NewServer()
	defer server.Close()
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: server.Credentials()}}

	resp, err := client.Get("/me")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	var me struct{ FirstName string }
	fmt.Println(json.NewDecoder(resp.Body).Decode(&me), me.FirstName)
	// Output: <nil> Jeanne
}

// ov6: GET(path, timestamp=…), and so for POST, PUT and DELETE. A Transport's Clock says what time it signs with.
func Example_ov6Timestamp() {
	server := ovhtest.NewServer()
	defer server.Close()
	timestamp := time.Now().Unix()
	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    server.Endpoint(),
		Credentials: server.Credentials(),
		Clock:       ovhauth.ClockFunc(func() time.Time { return time.Unix(timestamp, 0) }),
	}}

	resp, err := client.Get("/me")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status, server.Exchanges()[0].Header.Get("X-Ovh-Timestamp") == fmt.Sprint(timestamp))
	// Output: 200 OK true
}

// ov6: OVHApi.POST(path, params). Like ov6, encoding/json writes the body; it is signed as it is sent.
func Example_ov6POST() {
	server := ovhtest.NewServer()
	defer server.Close()
	echo(server)
	client := server.Client()

	params, _ := json.Marshal(map[string]any{"fieldType": "TXT"})
	show(client.Post("/domain/zone/example.ovh/record/", "application/json", strings.NewReader(string(params))))
	// Output: 200 POST {"fieldType":"TXT"} <nil>
}

// ov6: OVHApi.PUT(path, params)
func Example_ov6PUT() {
	server := ovhtest.NewServer()
	defer server.Close()
	echo(server)
	client := server.Client()

	req, _ := http.NewRequest("PUT", "/domain/zone/example.ovh/record/1", strings.NewReader(`{"ttl":60}`))
	show(client.Do(req))
	// Output: 200 PUT {"ttl":60} <nil>
}

// ov6: OVHApi.DELETE(path)
func Example_ov6DELETE() {
	server := ovhtest.NewServer()
	defer server.Close()
	echo(server)
	client := server.Client()

	req, _ := http.NewRequest("DELETE", "/domain/zone/example.ovh/record/1", nil)
	show(client.Do(req))
	// Output: 200 DELETE  <nil>
}
