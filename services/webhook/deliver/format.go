package deliver

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/tickwire/tickwire/services/webhook/store"
)

// format makes the request of some deliveries: the stored bytes, or what is a function of them, so that every attempt
// carries the same.
func (t *target) format(origin string, jobs []store.Job) (message, error) {
	batch := len(jobs) > 1 || jobs[0].Delivery.Batch != 0
	m := message{id: jobs[0].Event.ID}
	if batch {
		m.id = batchID(jobs)
	}
	switch t.Format {
	case store.FormatCloudEvents:
		if !batch {
			m.contentType = "application/cloudevents+json; charset=utf-8"
			var err error
			m.body, err = appendCloudEvent(nil, origin, &jobs[0].Event)
			return m, err
		}
		m.contentType = "application/cloudevents-batch+json; charset=utf-8"
		m.body = []byte{'['}
		for i := range jobs {
			if i > 0 {
				m.body = append(m.body, ',')
			}
			var err error
			if m.body, err = appendCloudEvent(m.body, origin, &jobs[i].Event); err != nil {
				return m, err
			}
		}
		m.body = append(m.body, ']')
		return m, nil
	case store.FormatSlack, store.FormatDiscord:
		m.contentType = "application/json"
		var err error
		m.body, err = chat(t.Format, jobs)
		return m, err
	}
	m.contentType = "application/json"
	if !batch {
		m.body = jobs[0].Event.Body
		return m, nil
	}
	m.body = append(m.body, `{"id":"`+m.id+`","type":"batch","data":[`...)
	for i := range jobs {
		if i > 0 {
			m.body = append(m.body, ',')
		}
		m.body = append(m.body, jobs[i].Event.Body...)
	}
	m.body = append(m.body, `]}`...)
	return m, nil
}

// batchPrefix begins the ids of batches.
const batchPrefix = "bat_"

// batchID is made of the events' ids, so that the same id never goes with another body.
func batchID(jobs []store.Job) string {
	h := sha256.New()
	for i := range jobs {
		_, _ = h.Write(append([]byte(jobs[i].Event.ID), '\n'))
	}
	return batchPrefix + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:16]))
}

// body is what formats read of an event's stored bytes.
type body struct {
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		Object json.RawMessage `json:"object"`
	} `json:"data"`
}

// object is what messages for people read of it.
type object struct {
	Name     string  `json:"name"`
	Sym      string  `json:"sym"`
	Series   string  `json:"series"`
	Op       string  `json:"op"`
	Limit    string  `json:"limit"`
	Value    string  `json:"value"`
	Prev     *string `json:"prev"`
	AfterGap bool    `json:"after_gap"`

	Endpoint string `json:"endpoint"` // of events for operators
	Delivery string `json:"delivery"`
	Reason   string `json:"reason"`
}

// appendCloudEvent appends an event in the structured mode of CloudEvents 1.0.
func appendCloudEvent(dst []byte, origin string, ev *store.Event) ([]byte, error) {
	var b body
	if err := json.Unmarshal(ev.Body, &b); err != nil {
		return nil, fmt.Errorf("event %s: %w", ev.ID, err)
	}
	data := b.Data.Object
	if len(data) == 0 {
		data = json.RawMessage("null")
	}
	head, err := json.Marshal(struct {
		SpecVersion string `json:"specversion"`
		ID          string `json:"id"`
		Source      string `json:"source"`
		Type        string `json:"type"`
		Subject     string `json:"subject,omitempty"`
		Time        string `json:"time"`
		ContentType string `json:"datacontenttype"`
	}{"1.0", ev.ID, origin, "tickwire." + ev.Type, ev.Sym, b.Timestamp.UTC().Format(time.RFC3339Nano), "application/json"})
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", ev.ID, err)
	}
	dst = append(dst, head[:len(head)-1]...)
	dst = append(dst, `,"data":`...)
	return append(append(dst, data...), '}'), nil
}

// Bounds of messages for people. Discord refuses longer ones than 2,000 characters.
const (
	maxChat  = 1900 // characters in all
	maxValue = 120  // of one value
)

// chat makes the body of a Slack or Discord message. What users named is text in it and nothing else: no mark-up and no
// mentions.
func chat(f store.Format, jobs []store.Job) ([]byte, error) {
	escape := slackText
	if f == store.FormatDiscord {
		escape = discordText
	}
	var lines []string
	size := 0
	for i := range jobs {
		line, err := sentence(&jobs[i].Event, escape)
		if err != nil {
			return nil, err
		}
		if size += len([]rune(line)) + 1; size > maxChat-40 && i > 0 {
			lines = append(lines, fmt.Sprintf("… and %d more", len(jobs)-i))
			break
		}
		lines = append(lines, line)
	}
	text := strings.Join(lines, "\n")
	if f == store.FormatDiscord {
		return json.Marshal(struct {
			Content  string `json:"content"`
			Mentions struct {
				Parse []string `json:"parse"`
			} `json:"allowed_mentions"`
			Flags int `json:"flags"`
		}{Content: text, Mentions: struct {
			Parse []string `json:"parse"`
		}{[]string{}}, Flags: 4}) // 4: no previews of links
	}
	return json.Marshal(struct {
		Text   string `json:"text"`
		Mrkdwn bool   `json:"mrkdwn"`
		Links  bool   `json:"unfurl_links"`
		Media  bool   `json:"unfurl_media"`
	}{Text: text})
}

// sentence tells an event in a line.
func sentence(ev *store.Event, escape func(string) string) (string, error) {
	var b body
	if err := json.Unmarshal(ev.Body, &b); err != nil {
		return "", fmt.Errorf("event %s: %w", ev.ID, err)
	}
	var o object
	if len(b.Data.Object) > 0 {
		if err := json.Unmarshal(b.Data.Object, &o); err != nil {
			return "", fmt.Errorf("event %s: %w", ev.ID, err)
		}
	}
	f := func(s string) string { return escape(oneLine(s, maxValue)) }
	switch {
	case ev.Type == store.TypeAlertFired:
		line := f(o.Sym) + ": " + f(o.Series) + " " + f(strings.ReplaceAll(o.Op, "_", " ")) + " " + f(o.Limit) + ", is " + f(o.Value)
		if o.Prev != nil {
			line += ", was " + f(*o.Prev)
		}
		if o.AfterGap {
			line += " (after a gap)"
		}
		if o.Name != "" {
			line += " · " + f(o.Name)
		}
		return line, nil
	case o.Endpoint != "":
		line := f(ev.Type) + ": " + f(o.Endpoint)
		if o.Delivery != "" {
			line += " " + f(o.Delivery)
		}
		if o.Reason != "" {
			line += " (" + f(o.Reason) + ")"
		}
		return line, nil
	}
	line := f(ev.Type)
	for _, s := range []string{o.Sym, o.Name} {
		if s != "" {
			line += " · " + f(s)
		}
	}
	return line, nil
}

// oneLine makes a value one line of at most n printable characters.
func oneLine(s string, n int) string {
	count := 0
	return strings.Map(func(r rune) rune {
		switch count++; {
		case count > n:
			return -1
		case count == n:
			return '…'
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
}

// slackText escapes what Slack reads as links and mentions: <!channel>, <@U123>, <https://…>. Its other mark-up is switched
// off for the whole message.
func slackText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

// discordText puts a backslash before all that Discord reads as mark-up; with one before its colon an address is no link.
func discordText(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\\*_~`|<>@#[]():", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
