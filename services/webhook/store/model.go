// Package store keeps what the webhook service must not lose: alerts and where their evaluation stands, events, deliveries
// and their attempts, endpoints, tenants and keys. It is SQLite for one process, or PostgreSQL for several instances, with
// one schema.
//
// # One transaction
//
// What a batch of market events did is committed at once: the state of the rules it moved, the events it fired, the
// deliveries of these, and the place in md.events. So a killed process neither misses an alert nor fires one twice. Every
// such commit names the epoch of the owner's lease, and an owner that has been replaced meanwhile gets ErrFenced.
package store

import (
	"time"

	"github.com/tickwire/tickwire/pkg/market"
)

// The prefixes of public ids. An id is its prefix and a number in base 32; that of an alert's event is derived from the alert
// and its arm_seq, so that the same fire always has the same id.
const (
	TenantPrefix   = "ten_"
	KeyPrefix      = "key_"
	EndpointPrefix = "ep_"
	AlertPrefix    = "al_"
	EventPrefix    = "evt_"
	DeliveryPrefix = "dlv_"
	ReplayPrefix   = "rpl_"
)

// Tenant is who owns alerts and endpoints.
type Tenant struct {
	Num     int64
	Name    string
	Quota   Quota
	Created time.Time
}

// Quota bounds what a tenant may have. Zero values mean the service's defaults.
type Quota struct {
	Alerts    int // that have not ended
	Endpoints int
	Rate      float64 // API requests a second
}

// Key is an API key. Only a hash of its secret is kept.
type Key struct {
	Num     int64
	Tenant  int64
	Name    string
	Prefix  string // the first characters of the secret, by which people tell keys apart
	Scopes  []string
	Created time.Time
	Expires time.Time // zero: never
	Revoked time.Time // zero: it is good
	Used    time.Time // about when it was last; zero: never
}

// The scopes of keys.
const (
	ScopeAlertsRead     = "alerts:read"
	ScopeAlertsWrite    = "alerts:write"
	ScopeEndpointsRead  = "endpoints:read"
	ScopeEndpointsWrite = "endpoints:write"
	ScopeEventsRead     = "events:read" // and deliveries
	ScopeDeliveries     = "deliveries:write"
	ScopeKeys           = "keys:write"
)

// EndpointState says whether deliveries go out to an endpoint.
type EndpointState string

// The states of an endpoint. What is fired while one is unverified or disabled is held for it.
const (
	EndpointUnverified EndpointState = "unverified"
	EndpointEnabled    EndpointState = "enabled"
	EndpointDisabled   EndpointState = "disabled"
)

// Endpoint is where deliveries go.
type Endpoint struct {
	Num         int64
	Tenant      int64
	URL         string
	Description string
	State       EndpointState
	Why         string   // it is disabled: "user", "gone" (410) or "failing" (days of failure)
	EventTypes  []string // that it gets; empty is all
	Created     time.Time
	Updated     time.Time
	Version     int64 // grows with each change of configuration or secrets

	Format      Format
	Profile     Profile
	MaxInFlight int           // requests at a time, 1 to 100
	Rate        float64       // requests a second; 0 is no limit
	Timeout     time.Duration // of a request in all, at most 15 s
	Ordering    Ordering
	Batch       int // events in one request, 1 to 100; 1 is no batching

	Headers    []Header // that every request carries; kept encrypted
	Signatures []string // beside Standard Webhooks: "stripe", "github", "slack", "razorpay"
	Secrets    []Secret // newest first; kept encrypted
	TLS        *ClientTLS
	Verify     Verify

	Health Health
}

// Header is a header of an endpoint's requests.
type Header struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Format is the form of a request's body.
type Format string

// The formats.
const (
	FormatJSON        Format = "json"
	FormatCloudEvents Format = "cloudevents" // structured mode, 1.0
	FormatSlack       Format = "slack"
	FormatDiscord     Format = "discord"
)

// Profile is when failed deliveries are tried again.
type Profile string

// The retry profiles.
const (
	ProfileRealtime Profile = "realtime" // 0, 1 s, 5 s, 15 s, 1 m, 5 m, 15 m, 1 h, 3 h
	ProfileStandard Profile = "standard" // over 75 h
)

// Ordering says which deliveries wait for which.
type Ordering string

// The orderings: none, or the deliveries of a key (an alert, an instrument) one after the other, each until it is delivered,
// exhausted or cancelled.
const (
	OrderNone       Ordering = "none"
	OrderAlert      Ordering = "alert"
	OrderInstrument Ordering = "instrument"
)

// Verify says how an endpoint proves that it wants our requests.
type Verify string

// The ways of verification. Without any, an endpoint is enabled at once.
const (
	VerifyNone        Verify = "none"
	VerifyChallenge   Verify = "challenge"
	VerifyCloudEvents Verify = "cloudevents" // the Web Hook handshake of CloudEvents: OPTIONS with WebHook-Request-Origin
)

// SecretKind is the kind of a signing key.
type SecretKind string

// The kinds of secrets, named after the signatures they make.
const (
	SecretV1  SecretKind = "v1"  // whsec_…, HMAC-SHA-256
	SecretV1a SecretKind = "v1a" // whsk_…, Ed25519
)

// Secret is a signing key of an endpoint.
type Secret struct {
	Num     int64
	Kind    SecretKind
	Text    string // as pkg/signature prints it
	Created time.Time
	Expires time.Time // zero: it is the current one of its kind; otherwise requests are signed with it until then
}

// ClientTLS is a certificate for mutual TLS, and whom to trust at the other end; all PEM. The key is kept encrypted.
type ClientTLS struct {
	Cert string `json:"cert,omitempty"`
	Key  string `json:"key,omitempty"`
	CA   string `json:"ca,omitempty"` // empty: the system's
}

// Health is how an endpoint has been doing, as its sender last committed it.
type Health struct {
	FailingSince time.Time // the first failure since the last success; zero: it is well
	Failing      bool      // endpoint.failing has been said
	PausedUntil  time.Time // it asked so by Retry-After
	LastSuccess  time.Time
	LastFailure  time.Time
	LastError    string
}

// AlertState is where an alert stands.
type AlertState string

// The states of an alert.
const (
	AlertPending AlertState = "pending" // the owner of its partition does not know it yet
	AlertActive  AlertState = "active"
	AlertPaused  AlertState = "paused"
	AlertFired   AlertState = "fired"   // once, and it was one for once
	AlertExpired AlertState = "expired" // expires_at has come
	AlertEnded   AlertState = "ended"   // its instrument was delisted, or got scales at which the limit is no number
	AlertDeleted AlertState = "deleted" // kept so that its events can still be explained
)

// Alert is a rule of a tenant and how it stands.
type Alert struct {
	Num       int64
	Tenant    int64
	Name      string
	Sym       string
	Inst      uint32
	Partition int
	Rule      string   // the canonical JSON of the rule as the API has it
	Endpoints []int64  // where its events go; empty: to all of the tenant's that want their type
	Metadata  string   // JSON of the user's, given back in events; "" is none
	Labels    []string // for filters

	State    AlertState
	Version  int64 // grows with each change that the owner must learn of: rule, paused, deleted
	Applied  int64 // the Version that the owner has taken over
	Created  time.Time
	Updated  time.Time
	LastFire time.Time

	Eval Eval
}

// Eval is the state of a rule's evaluation. Blob is package rule's; the rest is for people.
type Eval struct {
	ArmSeq    uint32      // fires so far; the next one is ArmSeq + 1
	ValidFrom int64       // offset in md.events from which on events count
	Clock     market.Time // of the partition when it was activated
	Value     string      // of the series then, decimal; "" when there was none
	Blob      []byte      // rule.State
}

// Event is something that happened, as it is told to endpoints.
type Event struct {
	Num     int64
	ID      string // evt_…
	Tenant  int64
	Seq     int64 // of the tenant's events, in the order in which they became visible
	Type    string
	Alert   int64  // 0: none
	ArmSeq  uint32 // of the alert
	Sym     string // of the alert
	About   int64  // endpoint that it is about; 0: none
	Body    []byte // JSON, the same bytes at each attempt
	Created time.Time
}

// The types of events.
const (
	TypeAlertFired        = "alert.fired"
	TypeAlertExpired      = "alert.expired"
	TypeAlertEnded        = "alert.ended"
	TypeAlertGap          = "alert.gap"         // the log had lost events that alerts should have seen
	TypeEndpointFailing   = "endpoint.failing"  // since a while
	TypeEndpointDisabled  = "endpoint.disabled" // by 410, or after days of failure
	TypeEndpointRecovered = "endpoint.recovered"
	TypeDeliveryExhausted = "delivery.exhausted"
	TypeTest              = "test"
)

// DeliveryState is where a delivery stands.
type DeliveryState string

// The states of a delivery.
const (
	DeliveryQueued    DeliveryState = "queued"    // waits for its time or its turn
	DeliveryHeld      DeliveryState = "held"      // its endpoint is disabled or unverified
	DeliveryDelivered DeliveryState = "delivered" // answered by 2xx
	DeliveryExhausted DeliveryState = "exhausted" // a dead letter: all attempts failed
	DeliveryCancelled DeliveryState = "cancelled"
)

// Delivery is an event on its way to one endpoint.
type Delivery struct {
	Num      int64
	Tenant   int64
	Event    int64
	EventID  string // where it was read with its event
	Endpoint int64
	State    DeliveryState
	Attempts int       // made
	Round    int       // attempts since it was queued or resent: the place in the retry profile
	Key      int64     // of ordering; 0: none
	Batch    int64     // the batch that it was sent in; 0: none yet
	Manual   bool      // somebody asked for its next attempt
	NextAt   time.Time // zero: it waits for its turn
	Created  time.Time
	Finished time.Time
	LastCode int // HTTP status of the last attempt; 0: there was no answer
	LastErr  string
}

// Attempt is one request.
type Attempt struct {
	Delivery int64
	N        int // from 1
	At       time.Time
	Took     time.Duration
	Code     int    // 0: there was no answer
	Err      string // why it failed; empty when it did not
	Response string // the beginning of the answer's body, made printable
	Manual   bool   // asked for by resend
}

// Replay sends deliveries again in bulk. It goes on after a restart.
type Replay struct {
	Num      int64
	Tenant   int64
	Endpoint int64 // 0: all
	States   []DeliveryState
	Type     string // of events; empty: all
	From, To time.Time
	State    string // "running", "done", "cancelled"
	Matched  int64  // sent again so far
	Created  time.Time
	Finished time.Time
}

// Instrument is what the API must know of an instrument to take a rule for it.
type Instrument struct {
	Sym        string
	Inst       uint32
	Partition  int
	PriceScale uint8
	SizeScale  uint8
	State      string // live, halted, delisted
}
