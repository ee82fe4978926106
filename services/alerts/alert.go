package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// alert is an alert as the API tells it.
type alert struct {
	ID        string  `json:"id"`
	Sym       string  `json:"sym"`
	Name      string  `json:"name"`
	Rule      rule    `json:"rule"`
	State     string  `json:"state"`
	Fires     int     `json:"fires"`
	LastFired *string `json:"last_fired_at"`
	ValidFrom *struct {
		Value *string `json:"value"`
	} `json:"valid_from"`
}

// rule is when an alert fires.
type rule struct {
	Series     string `json:"series"`
	Window     string `json:"window,omitempty"`
	Window2    string `json:"window2,omitempty"`
	Op         string `json:"op"`
	Limit      string `json:"limit"`
	Mode       string `json:"mode,omitempty"`
	Hysteresis string `json:"hysteresis,omitempty"`
	Cooldown   string `json:"cooldown,omitempty"`
	HoldFor    string `json:"hold_for,omitempty"`
	Expires    string `json:"expires_at,omitempty"`
	OnGap      string `json:"on_gap,omitempty"`
}

// String is the rule as people read it: volume_ratio(5m,1h) at_or_above 3.
func (r rule) String() string {
	s := r.Series
	switch {
	case r.Window2 != "":
		s += "(" + r.Window + "," + r.Window2 + ")"
	case r.Window != "":
		s += "(" + r.Window + ")"
	}
	s += " " + r.Op + " " + r.Limit
	if r.Mode == "recurring" {
		s += ", recurring"
	}
	return visible(s)
}

// Command is `tickwire alert`.
func Command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alert",
		Short: "Make, list and delete price alerts, and test where they go",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(createCommand(), listCommand(), removeCommand(), testCommand())
	return cmd
}

// negative is a limit that looks like a flag.
var negative = regexp.MustCompile(`^-[0-9.]`)

// Args makes the limit of `alert create … -2.5` one that is not taken for a flag.
func Args(args []string) []string {
	if len(args) < 2 || args[0] != "alert" || args[1] != "create" {
		return args
	}
	out := make([]string, 0, len(args))
	for i, arg := range args {
		valueOf := i > 0 && strings.HasPrefix(args[i-1], "--") && !strings.Contains(args[i-1], "=")
		if negative.MatchString(arg) && !valueOf {
			arg = "--limit=" + arg
		}
		out = append(out, arg)
	}
	return out
}

// creation is what `alert create` asks for.
type creation struct {
	Sym       string          `json:"sym"`
	Rule      rule            `json:"rule"`
	Name      string          `json:"name,omitempty"`
	Endpoints []string        `json:"endpoints,omitempty"`
	Labels    []string        `json:"labels,omitempty"`
	Metadata  json.RawMessage `json:"metadata,omitempty"`
}

func createCommand() *cobra.Command {
	api := defaultAPI()
	var (
		c         creation
		recurring bool
		expires   string
		metadata  string
		asJSON    bool
	)
	cmd := &cobra.Command{
		Use:   "create SYM SERIES OP LIMIT",
		Short: "Make an alert",
		Long: `Make an alert: when SERIES of the instrument SYM meets LIMIT by OP, an event goes to your endpoints.

SERIES  last mid bid ask spread_bps; change_pct from_high_pct from_low_pct volume, over --window;
        volume_ratio ma_diff, over --window and --window2
OP      crosses_above crosses_below at_or_above at_or_below

An alert fires once unless it is --recurring. All times are those of the market's stream.`,
		Example: `  tickwire alert create BTC-USDT last crosses_above 65000
  tickwire alert create BTC-USDT change_pct at_or_below -2.5 --window 1h --recurring --hysteresis 0.5 --cooldown 5m
  tickwire alert create ETH-USDT volume_ratio at_or_above 3 --window 5m --window2 24h --name 'ETH is busy'`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.Rule.Limit != "" {
				args = append(args, c.Rule.Limit)
			}
			if len(args) != 4 {
				return wrong("name an instrument, a series, an operator and a limit: tickwire alert create BTC-USDT last crosses_above 65000")
			}
			c.Sym, c.Rule.Series, c.Rule.Op, c.Rule.Limit = args[0], args[1], args[2], args[3]
			if recurring {
				c.Rule.Mode = "recurring"
			}
			var err error
			if c.Rule.Expires, err = moment(expires, time.Now()); err != nil {
				return err
			}
			if metadata != "" {
				if !json.Valid([]byte(metadata)) {
					return wrong("--metadata: not a JSON object")
				}
				c.Metadata = json.RawMessage(metadata)
			}
			return create(cmd.Context(), &api, &c, asJSON, cmd.OutOrStdout())
		},
	}
	fs := cmd.Flags()
	api.registerFlags(fs)
	ruleFlags(fs, &c.Rule)
	fs.BoolVar(&recurring, "recurring", false, "fire again after the value has gone back behind the limit (default: once)")
	fs.StringVar(&expires, "expires", "", "when the alert ends: a `TIME` such as 2026-12-31T00:00:00Z, or in how long, such as 72h (default: never)")
	fs.StringSliceVar(&c.Endpoints, "endpoint", nil, "`ID,…` of the endpoints that events go to (default: all that want them)")
	fs.StringVar(&c.Name, "name", "", "`NAME` for people")
	fs.StringSliceVar(&c.Labels, "label", nil, "`LABEL,…` to find it by")
	fs.StringVar(&metadata, "metadata", "", "`JSON` object that comes back in each event")
	fs.BoolVar(&asJSON, "json", false, "print the alert as JSON")
	return cmd
}

func ruleFlags(fs *pflag.FlagSet, r *rule) {
	fs.StringVar(&r.Limit, "limit", "", "`LIMIT`, in another place than behind OP")
	fs.StringVar(&r.Window, "window", "", "`TIME` that the series looks back on, whole minutes up to 24h")
	fs.StringVar(&r.Window2, "window2", "", "`TIME` of the second window")
	fs.StringVar(&r.Hysteresis, "hysteresis", "", "`AMOUNT` that the value must go back behind the limit before a recurring alert can fire again")
	fs.StringVar(&r.Cooldown, "cooldown", "", "`TIME` after a fire in which there is no other")
	fs.StringVar(&r.HoldFor, "hold-for", "", "`TIME` that the condition must hold without a break")
	fs.StringVar(&r.OnGap, "on-gap", "", "`fire|reset`: whether a crossing counts that happened while nothing was known (default: fire)")
}

// moment reads a time, or how long it is until then.
func moment(s string, now time.Time) (string, error) {
	if s == "" {
		return "", nil
	}
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return now.Add(d).UTC().Truncate(time.Second).Format(time.RFC3339), nil
	}
	if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
		return "", wrong("--expires: neither a time such as 2026-12-31T00:00:00Z nor a duration such as 72h")
	}
	return s, nil
}

func create(ctx context.Context, api *API, c *creation, asJSON bool, out io.Writer) error {
	var text json.RawMessage
	if err := api.ask(ctx, http.MethodPost, "/v1/alerts", c, &text); err != nil {
		return err
	}
	if asJSON {
		_, err := fmt.Fprintln(out, visibleJSON(text))
		return err
	}
	var a alert
	if err := json.Unmarshal(text, &a); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	state := visible(a.State)
	switch {
	case a.State == "pending":
		state = "pending: it counts as soon as the service has taken it over"
	case a.ValidFrom != nil && a.ValidFrom.Value != nil:
		state += fmt.Sprintf("; %s was %s", visible(a.Rule.Series), visible(*a.ValidFrom.Value))
	}
	_, err := fmt.Fprintf(out, "%s  %s %s  (%s)\n", visible(a.ID), visible(a.Sym), a.Rule, state)
	return err
}

func listCommand() *cobra.Command {
	api := defaultAPI()
	var (
		state, sym, label string
		most              int
		asJSON            bool
	)
	cmd := &cobra.Command{
		Use: "list", Short: "List alerts, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if most < 1 {
				return wrong("--max: at least 1")
			}
			query := url.Values{}
			for name, value := range map[string]string{"state": state, "sym": sym, "label": label} {
				if value != "" {
					query.Set(name, value)
				}
			}
			return list(cmd.Context(), &api, query, most, asJSON, cmd.OutOrStdout())
		},
	}
	fs := cmd.Flags()
	api.registerFlags(fs)
	fs.StringVar(&state, "state", "", "only those in `STATE`: pending, active, paused, fired, expired or ended")
	fs.StringVar(&sym, "sym", "", "only those of this `INSTRUMENT`")
	fs.StringVar(&label, "label", "", "only those with this `LABEL`")
	fs.IntVar(&most, "max", 1000, "how many at most")
	fs.BoolVar(&asJSON, "json", false, "print each as a line of JSON")
	return cmd
}

// page is how many alerts are asked for at once.
const page = 500

func list(ctx context.Context, api *API, query url.Values, most int, asJSON bool, out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for shown := 0; ; {
		query.Set("limit", fmt.Sprint(min(page, most-shown)))
		var p struct {
			Items []json.RawMessage `json:"items"`
			Next  *string           `json:"next"`
		}
		if err := api.ask(ctx, http.MethodGet, "/v1/alerts?"+query.Encode(), nil, &p); err != nil {
			return err
		}
		for _, text := range p.Items {
			if shown == 0 && !asJSON {
				_, _ = fmt.Fprintln(table, "ID\tINSTRUMENT\tRULE\tSTATE\tFIRES\tLAST FIRE\tNAME") // Flush tells
			}
			shown++
			if err := row(table, out, text, asJSON); err != nil {
				return err
			}
		}
		if p.Next == nil || shown >= most {
			if shown == 0 && !asJSON {
				_, _ = fmt.Fprintln(table, "no alerts")
			} else if p.Next != nil && !asJSON {
				_, _ = fmt.Fprintln(table, "… and more; see --max")
			}
			return table.Flush()
		}
		query.Set("after", *p.Next)
	}
}

// row prints one alert of a list.
func row(table, out io.Writer, text json.RawMessage, asJSON bool) error {
	if asJSON {
		_, err := fmt.Fprintln(out, visibleJSON(text))
		return err
	}
	var a alert
	if err := json.Unmarshal(text, &a); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	fired := "-"
	if a.LastFired != nil {
		fired = clock(*a.LastFired)
	}
	_, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", visible(a.ID), visible(a.Sym), a.Rule, visible(a.State), a.Fires, fired, clipped(visible(a.Name), 40))
	return err
}

// clock is a time as people here read it.
func clock(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return visible(s)
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func removeCommand() *cobra.Command {
	api := defaultAPI()
	cmd := &cobra.Command{
		Use: "rm ID…", Short: "Delete alerts; their events stay",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrong("name alerts by their ids, as tickwire alert list shows them")
			}
			var failed []error
			for _, id := range args {
				if err := api.ask(cmd.Context(), http.MethodDelete, "/v1/alerts/"+url.PathEscape(id), nil, nil); err != nil {
					failed = append(failed, fmt.Errorf("%s: %w", visible(id), err))
					continue
				}
				if _, err := fmt.Fprintln(cmd.OutOrStdout(), "deleted", visible(id)); err != nil {
					return err
				}
			}
			return errors.Join(failed...)
		},
	}
	api.registerFlags(cmd.Flags())
	return cmd
}

// endpoint is an endpoint as the API tells it.
type endpoint struct {
	ID          string `json:"id"`
	URL         string `json:"url"`
	Description string `json:"description"`
	State       string `json:"state"`
	Secrets     []struct {
		Text string `json:"secret"`
	} `json:"secrets"`
}

func testCommand() *cobra.Command {
	api := defaultAPI()
	cmd := &cobra.Command{
		Use: "test ENDPOINT", Short: "Send a test event to an endpoint, and tell what came of it",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return nameOne(cmd.Context(), &api)
			}
			var r struct {
				OK       bool    `json:"ok"`
				Status   int     `json:"status"`
				Took     float64 `json:"took_ms"`
				Error    string  `json:"error"`
				Response string  `json:"response"`
			}
			if err := api.ask(cmd.Context(), http.MethodPost, "/v1/endpoints/"+url.PathEscape(args[0])+"/test", struct{}{}, &r); err != nil {
				return err
			}
			if !r.OK {
				if r.Response != "" {
					return fmt.Errorf("the endpoint has not taken it: %s; it says: %s", visible(r.Error), clipped(visible(r.Response), 500))
				}
				return fmt.Errorf("the endpoint has not taken it: %s", visible(r.Error))
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "taken: %d after %.0f ms\n", r.Status, r.Took)
			return err
		},
	}
	api.registerFlags(cmd.Flags())
	return cmd
}

// nameOne says which endpoints there are.
func nameOne(ctx context.Context, api *API) error {
	var p struct {
		Items []endpoint `json:"items"`
	}
	if err := api.ask(ctx, http.MethodGet, "/v1/endpoints?limit=20", nil, &p); err != nil {
		return err
	}
	if len(p.Items) == 0 {
		return wrong("name an endpoint; there is none yet: POST /v1/endpoints makes one, and so does tickwire listen")
	}
	var b strings.Builder
	for _, e := range p.Items {
		fmt.Fprintf(&b, "\n  %s  %s  (%s)", visible(e.ID), visible(e.URL), visible(e.State))
	}
	return wrong("name an endpoint:%s", b.String())
}
