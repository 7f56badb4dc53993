package ovhtest

import (
	"net/netip"
	"slices"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/consumerkey"
)

type application struct {
	ID          int64  `json:"applicationId"`
	Key         string `json:"applicationKey"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Status      string `json:"status"`
	secret      string
}

// The states of a consumer key.
const (
	pending   = "pendingValidation"
	validated = "validated"
	refused   = "refused"
	expired   = "expired"
)

// A credential is what the API shows of a consumer key.
type credential struct {
	ID            int64              `json:"credentialId"`
	ApplicationID int64              `json:"applicationId"`
	Status        string             `json:"status"`
	Rules         []consumerkey.Rule `json:"rules"`
	Creation      time.Time          `json:"creation"`
	Expiration    *time.Time         `json:"expiration"`
	LastUse       *time.Time         `json:"lastUse"`
	AllowedIPs    []string           `json:"allowedIPs"`
	OVHSupport    bool               `json:"ovhSupport"`
}

type key struct {
	credential
	app             *application
	consumerKey     string
	validationToken string // of the validation URL
	redirection     string
}

// at is the credential as of now, when it may have expired.
func (k *key) at(now time.Time) credential {
	c := k.credential
	if c.Status == validated && c.Expiration != nil && !now.Before(*c.Expiration) {
		c.Status = expired
	}
	return c
}

func (k *key) credentials() ovhauth.Credentials {
	return ovhauth.Credentials{ApplicationKey: k.app.Key, ApplicationSecret: k.app.secret, ConsumerKey: k.consumerKey}
}

const tokenLife = 3599 * time.Second

type serviceAccount struct {
	secret string
	rules  []consumerkey.Rule
}

// A token is a bearer token of a service account.
type token struct {
	clientID string
	expires  time.Time
}

// NewApplication adds an application with one validated consumer key, which may call everything.
func (s *Server) NewApplication() ovhauth.Credentials {
	return s.newApplication(s.now()).credentials()
}

func (s *Server) newApplication(now time.Time) *key {
	s.mu.Lock()
	defer s.mu.Unlock()
	app := &application{
		ID:          s.nextID(),
		Key:         random(16),
		Name:        "ovhtest",
		Description: "An application of a test",
		Status:      "active",
		secret:      random(32),
	}
	s.apps[app.Key] = app
	return s.newKey(app, fullAccess, validated, now)
}

// NewKey adds a validated consumer key of the first application. Without rules it may call everything. A rule's path may
// contain *, which stands for any run of characters; HEAD and OPTIONS need a rule for GET, and PATCH one for PUT.
func (s *Server) NewKey(rules ...consumerkey.Rule) ovhauth.Credentials {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newKey(s.first.app, orFullAccess(rules), validated, now).credentials()
}

var fullAccess = consumerkey.ReadWrite("/")

func orFullAccess(rules []consumerkey.Rule) []consumerkey.Rule {
	if len(rules) == 0 {
		return fullAccess
	}
	return slices.Clone(rules)
}

func (s *Server) newKey(app *application, rules []consumerkey.Rule, status string, now time.Time) *key {
	k := &key{
		credential: credential{
			ID:            s.nextID(),
			ApplicationID: app.ID,
			Status:        status,
			Rules:         rules,
			Creation:      now.Truncate(time.Second),
		},
		app:             app,
		consumerKey:     random(32),
		validationToken: random(64),
	}
	s.keys[k.consumerKey] = k
	return k
}

func (s *Server) nextID() int64 {
	s.lastID++
	return s.lastID
}

// NewServiceAccount adds an OAuth2 client, for the token endpoint at the host's root, /auth/oauth2/token. Its tokens live 3599 s by
// the server's clock. Rules stand for the IAM policies of a real account, and are read as those of NewKey: without rules its tokens
// may call everything, and what they may not call is 403 "User not granted for this request".
func (s *Server) NewServiceAccount(rules ...consumerkey.Rule) (clientID, clientSecret string) {
	clientID, clientSecret = "EU."+random(16), random(32)
	s.locked(func() { s.services[clientID] = &serviceAccount{clientSecret, orFullAccess(rules)} })
	return clientID, clientSecret
}

// RotateSecret gives a service account another secret. The old one is rejected from then on; tokens that it fetched stay valid. It
// panics if there is no such account.
func (s *Server) RotateSecret(clientID string) (clientSecret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	account := s.services[clientID]
	if account == nil {
		panic("ovhtest: there is no such service account")
	}
	account.secret = random(32)
	return account.secret
}

// Validate makes a consumer key valid, whatever its state, without expiration. It panics if there is no such key, as do
// Refuse and Expire.
func (s *Server) Validate(consumerKey string) {
	s.change(consumerKey, func(k *key, _ time.Time) { k.Status, k.Expiration = validated, nil })
}

// Refuse puts a consumer key in the state of one that the user refused.
func (s *Server) Refuse(consumerKey string) {
	s.change(consumerKey, func(k *key, _ time.Time) { k.Status = refused })
}

// Expire ends the validity of a consumer key.
func (s *Server) Expire(consumerKey string) {
	s.change(consumerKey, (*key).expire)
}

func (k *key) expire(now time.Time) {
	now = now.Truncate(time.Second)
	k.Status, k.Expiration = expired, &now
}

func (s *Server) change(consumerKey string, f func(*key, time.Time)) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[consumerKey]
	if k == nil {
		panic("ovhtest: there is no such consumer key")
	}
	f(k, now)
}

// Revoke removes a consumer key, if there is such a key.
func (s *Server) Revoke(consumerKey string) {
	s.locked(func() { delete(s.keys, consumerKey) })
}

// RevokeTokens ends every bearer token given so far: the response to each is 401.
func (s *Server) RevokeTokens() {
	s.locked(func() { clear(s.tokens) })
}

// allows reports whether a list of addresses and CIDR ranges allows ip; an empty one allows all.
func allows(allowedIPs []string, ip netip.Addr) bool {
	for _, s := range allowedIPs {
		if r, err := parseRange(s); err == nil && r.Contains(ip) {
			return true
		}
	}
	return len(allowedIPs) == 0
}

func validRanges(allowedIPs []string) bool {
	for _, s := range allowedIPs {
		if _, err := parseRange(s); err != nil {
			return false
		}
	}
	return true
}

func parseRange(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.Prefix(ip.BitLen())
	}
	return netip.ParsePrefix(s)
}
