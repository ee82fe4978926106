package webhook

import (
	"slices"
	"strings"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/tickwire/tickwire/services/internal/rest"
	"github.com/tickwire/tickwire/services/webhook/store"
)

// access says whom a route is for.
type access uint8

const (
	ofTenant access = iota // whoever has the scope, for their tenant
	ofAdmin                // the admin token alone
	open                   // everyone
)

// route is something that can be asked for.
type route struct {
	method, path string
	scope        string
	params       []rest.Param
	serve        func(*api, *call) (*answer, error)
	access       access
}

const (
	get    = fasthttp.MethodGet
	post   = fasthttp.MethodPost
	patch  = fasthttp.MethodPatch
	remove = fasthttp.MethodDelete
	ofOne  = "{id}"
)

// The parameters of lists come first, in every list.
var (
	limitParam = rest.Param{Name: "limit", Min: 1, Max: 1000, Default: "100"}
	afterParam = rest.Param{Name: "after", Is: isCursor, What: "the next of a page"}
	seqParam   = rest.Param{Name: "after", Max: 1<<53 - 1, Default: "0"}
)

func page(more ...rest.Param) []rest.Param {
	return append([]rest.Param{limitParam, afterParam}, more...)
}

func oneOf[T ~string](name string, values ...T) rest.Param {
	p := rest.Param{Name: name}
	for _, v := range values {
		p.Values = append(p.Values, string(v))
	}
	return p
}

// eventTypes are those that there are.
var eventTypes = []string{
	store.TypeAlertFired, store.TypeAlertExpired, store.TypeAlertEnded, store.TypeAlertGap, store.TypeEndpointFailing,
	store.TypeEndpointDisabled, store.TypeEndpointRecovered, store.TypeDeliveryExhausted, store.TypeTest,
}

var (
	alertStateParam    = oneOf("state", store.AlertPending, store.AlertActive, store.AlertPaused, store.AlertFired, store.AlertExpired, store.AlertEnded)
	deliveryStateParam = oneOf("state", store.DeliveryQueued, store.DeliveryHeld, store.DeliveryDelivered, store.DeliveryExhausted, store.DeliveryCancelled)
	symParam           = rest.Param{Name: "sym", Is: isSym, What: "an instrument, such as BTC-USDT"}
	labelParam         = rest.Param{Name: "label", Is: isLabel, What: "a label"}
	typeParam          = oneOf("type", eventTypes...)
	alertParam         = rest.Param{Name: "alert", Is: isID(store.AlertPrefix), What: "the id of an alert"}
	endpointParam      = rest.Param{Name: "endpoint", Is: isID(store.EndpointPrefix), What: "the id of an endpoint"}
	eventParam         = rest.Param{Name: "event", Is: isEventID, What: "the id of an event"}
)

var routes = []route{
	{get, "/v1/alerts", store.ScopeAlertsRead, page(alertStateParam, symParam, labelParam), (*api).listAlerts, ofTenant},
	{post, "/v1/alerts", store.ScopeAlertsWrite, nil, (*api).createAlerts, ofTenant},
	{get, "/v1/alerts/{id}", store.ScopeAlertsRead, nil, (*api).getAlert, ofTenant},
	{patch, "/v1/alerts/{id}", store.ScopeAlertsWrite, nil, (*api).changeAlert, ofTenant},
	{remove, "/v1/alerts/{id}", store.ScopeAlertsWrite, nil, (*api).deleteAlert, ofTenant},
	{post, "/v1/alerts/{id}/pause", store.ScopeAlertsWrite, nil, (*api).pauseAlert, ofTenant},
	{post, "/v1/alerts/{id}/resume", store.ScopeAlertsWrite, nil, (*api).resumeAlert, ofTenant},

	{get, "/v1/endpoints", store.ScopeEndpointsRead, page(), (*api).listEndpoints, ofTenant},
	{post, "/v1/endpoints", store.ScopeEndpointsWrite, nil, (*api).createEndpoint, ofTenant},
	{get, "/v1/endpoints/{id}", store.ScopeEndpointsRead, nil, (*api).getEndpoint, ofTenant},
	{patch, "/v1/endpoints/{id}", store.ScopeEndpointsWrite, nil, (*api).changeEndpoint, ofTenant},
	{remove, "/v1/endpoints/{id}", store.ScopeEndpointsWrite, nil, (*api).deleteEndpoint, ofTenant},
	{post, "/v1/endpoints/{id}/rotate-secret", store.ScopeEndpointsWrite, nil, (*api).rotateSecret, ofTenant},
	{post, "/v1/endpoints/{id}/test", store.ScopeEndpointsWrite, nil, (*api).testEndpoint, ofTenant},
	{post, "/v1/endpoints/{id}/verify", store.ScopeEndpointsWrite, nil, (*api).verifyEndpoint, ofTenant},
	{post, "/v1/endpoints/{id}/enable", store.ScopeEndpointsWrite, nil, (*api).enableEndpoint, ofTenant},
	{post, "/v1/endpoints/{id}/disable", store.ScopeEndpointsWrite, nil, (*api).disableEndpoint, ofTenant},

	{get, "/v1/events", store.ScopeEventsRead, []rest.Param{limitParam, seqParam, typeParam, alertParam}, (*api).listEvents, ofTenant},
	{get, "/v1/events/{id}", store.ScopeEventsRead, nil, (*api).getEvent, ofTenant},

	{get, "/v1/deliveries", store.ScopeEventsRead, page(deliveryStateParam, endpointParam, eventParam), (*api).listDeliveries, ofTenant},
	{get, "/v1/deliveries/{id}", store.ScopeEventsRead, nil, (*api).getDelivery, ofTenant},
	{get, "/v1/deliveries/{id}/attempts", store.ScopeEventsRead, nil, (*api).listAttempts, ofTenant},
	{post, "/v1/deliveries/{id}/resend", store.ScopeDeliveries, nil, (*api).resendDelivery, ofTenant},
	{post, "/v1/deliveries/{id}/cancel", store.ScopeDeliveries, nil, (*api).cancelDelivery, ofTenant},

	{get, "/v1/replays", store.ScopeEventsRead, page(), (*api).listReplays, ofTenant},
	{post, "/v1/replays", store.ScopeDeliveries, nil, (*api).createReplay, ofTenant},
	{get, "/v1/replays/{id}", store.ScopeEventsRead, nil, (*api).getReplay, ofTenant},
	{post, "/v1/replays/{id}/cancel", store.ScopeDeliveries, nil, (*api).cancelReplay, ofTenant},

	{get, "/v1/keys", store.ScopeKeys, page(), (*api).listKeys, ofTenant},
	{post, "/v1/keys", store.ScopeKeys, nil, (*api).createKey, ofTenant},
	{get, "/v1/keys/{id}", store.ScopeKeys, nil, (*api).getKey, ofTenant},
	{post, "/v1/keys/{id}/revoke", store.ScopeKeys, nil, (*api).revokeKey, ofTenant},

	{get, "/v1/tenants", "", page(), (*api).listTenants, ofAdmin},
	{post, "/v1/tenants", "", nil, (*api).createTenant, ofAdmin},
	{get, "/v1/tenants/{id}", "", nil, (*api).getTenant, ofAdmin},
	{patch, "/v1/tenants/{id}", "", nil, (*api).changeTenant, ofAdmin},

	{get, "/healthz", "", nil, (*api).health, open},
	{get, openapiPath, "", nil, (*api).document, open},
}

// table is routes by path and method. It is made when it is first needed, since routes lead to what looks into it.
var table = sync.OnceValue(func() map[string]map[string]*route {
	t := make(map[string]map[string]*route)
	for i := range routes {
		r := &routes[i]
		if t[r.path] == nil {
			t[r.path] = make(map[string]*route)
		}
		t[r.path][r.method] = r
	}
	return t
})

// produces is the type of the route's answers.
func (r *route) produces() string {
	if r.path == openapiPath {
		return "application/yaml"
	}
	return jsonType
}

// thing is what the route is about, in the singular.
func (r *route) thing() string {
	name, _, _ := strings.Cut(strings.TrimPrefix(r.path, "/v1/"), "/")
	if stem, ok := strings.CutSuffix(name, "ies"); ok {
		return stem + "y"
	}
	return strings.TrimSuffix(name, "s")
}

// find looks a path up: its methods, nil when there is no such path; its route as metrics have it; and the id in it.
func find(path string) (methods map[string]*route, pattern, id string) {
	parts := strings.Split(path, "/")
	if len(parts) > 3 && parts[1] == "v1" { // "", v1, alerts, id
		id, parts[3] = parts[3], ofOne
	}
	pattern = strings.Join(parts, "/")
	if methods = table()[pattern]; methods == nil || len(parts) > 3 && id == "" {
		return nil, "other", ""
	}
	return methods, pattern, id
}

// allowed lists the methods of a path, for the header Allow.
func allowed(methods map[string]*route) string {
	list := []string{fasthttp.MethodOptions}
	for m := range methods {
		list = append(list, m)
		if m == get {
			list = append(list, fasthttp.MethodHead)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func isID(prefix string) func(string) bool {
	return func(s string) bool { _, err := store.ParseID(prefix, s); return err == nil }
}

// isCursor tells whether a text is the id of anything: a page ends with the id of its last item.
func isCursor(s string) bool { _, err := cursor(s); return err == nil }

// cursor is the number behind which a page begins.
func cursor(s string) (int64, error) {
	for _, prefix := range []string{store.AlertPrefix, store.EndpointPrefix, store.DeliveryPrefix, store.ReplayPrefix, store.KeyPrefix, store.TenantPrefix} {
		if strings.HasPrefix(s, prefix) {
			return store.ParseID(prefix, s)
		}
	}
	return 0, store.ErrNotFound
}

// isEventID tells whether a text is an event's id: that of an alert's event has the number of the fire behind it.
func isEventID(s string) bool {
	if len(s) > 64 {
		return false
	}
	parts := strings.Split(s, "_")
	if len(parts) == 3 && isDigits(parts[2]) {
		s = parts[0] + "_" + parts[1]
	}
	return isID(store.EventPrefix)(s)
}

func isDigits(s string) bool {
	return s != "" && len(s) <= 10 && strings.Trim(s, "0123456789") == "" && s[0] != '0'
}
