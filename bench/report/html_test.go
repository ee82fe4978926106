package report

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// pages are reports and a comparison as pages.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	single := func(name string, r *Report) {
		var b bytes.Buffer
		if err := r.HTML(&b); err != nil {
			t.Fatal(err)
		}
		all[name] = b.String()
	}
	single("report", sample(1, "tickwire", 1))
	single("faults", withFaults(sample(1, "tickwire", 1)))
	one := sample(2, "tickwire", 1)
	one.Rows, one.Notes, one.Phases = one.Rows[:1], nil, one.Phases[:2]
	one.Rows[0].Name = ""
	for i := range one.Rows[0].Measures {
		one.Rows[0].Measures[i].Runs = one.Rows[0].Measures[i].Runs[:1]
	}
	for i := range one.Rows[0].Series {
		s := &one.Rows[0].Series[i]
		s.At, s.Values = s.At[:5], s.Values[:5]
	}
	single("one", one)
	single("hostile", hostile())
	c, err := Compare([]string{"a.json", "b.json", "c.json"}, []*Report{sample(1, "tickwire", 1), withFaults(sample(3, "centrifugo", 3)), sample(4, "nchan", 0.9)})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.HTML(&b, []string{"worse: p99 3 times"}); err != nil {
		t.Fatal(err)
	}
	all["compare"] = b.String()
	return all
}

const attack = `</script></style><script>hostile=1</script><img src=x onerror=hostile=1>"'><!--{{.}}` + "\u2028`${hostile=1}"

// hostile has an attack wherever a report has text that somebody else may have chosen.
func hostile() *Report {
	r := sample(1, "tickwire"+attack, 1)
	r.Title, r.Scenario, r.Command = attack, attack, attack
	r.System.Protocol, r.System.Where = attack, attack
	r.Machine.CPU, r.Machine.System, r.Machine.Go, r.Machine.Build, r.Machine.Load = attack, attack, attack, attack, attack
	r.Settings = []Setting{{attack, attack}}
	r.Notes, r.Failed = []string{attack}, []string{attack}
	for i := range r.Phases {
		r.Phases[i].Name = attack
	}
	for i := range r.Rows {
		row := &r.Rows[i]
		row.Name, row.Notes = fmt.Sprint(i, attack), []string{attack}
		row.Measures[0].Unit = attack
		for j := range row.Series {
			row.Series[j].Unit = attack
		}
	}
	return r
}

func TestHTML(t *testing.T) {
	elsewhere := regexp.MustCompile(`(?i)(src|href|action|@import|url)\s*[=(]\s*["']?\s*(https?:|//)`)
	for name, page := range pages(t) {
		if n := strings.Count(page, "<script"); n != 3 || strings.Count(page, "</script>") != 3 || strings.Count(page, "<style") != 1 {
			t.Errorf("%s: %d scripts", name, n)
		}
		if strings.Contains(page, "<img") || strings.Contains(page, "ZgotmplZ") {
			t.Errorf("%s: something got through, or was not let through", name)
		}
		if found := elsewhere.FindString(page); found != "" {
			t.Errorf("%s: it asks for %s", name, found)
		}
		if len(page) > 400<<10 {
			t.Errorf("%s: %d bytes", name, len(page))
		}
	}
	for name, want := range map[string][]string{
		"report":  {"no faults", "1000 clients", "±25 %", "shared the two processors", "--clients 1000,5000", "Zero in every run"},
		"faults":  {"check failed", "gaps (messages that did not follow): 0, 0, 3, 0, 0", "were the bottleneck"},
		"one":     {"One run says nothing"},
		"compare": {"centrifugo: gaps", "What else differs", "worse: p99 3 times"},
	} {
		page := pages(t)[name]
		for _, text := range want {
			if !strings.Contains(page, text) {
				t.Errorf("%s: no %q", name, text)
			}
		}
	}
}

// probe is put into a page: it notes what goes wrong, what is asked of the network, and which plots are blank.
const (
	probeBegin = `<script>wrong=[];addEventListener('error',e=>wrong.push(String(e.message)),true);
addEventListener('securitypolicyviolation',e=>wrong.push('asked for '+e.blockedURI));</script>`
	probeEnd = `<script>addEventListener('load',()=>setTimeout(()=>{
const all=[...document.querySelectorAll('canvas')];
const drawn=all.filter(c=>{const p=c.getContext('2d').getImageData(0,0,c.width,c.height).data;const seen=new Set();for(let i=0;i<p.length;i+=4)if(p[i+3]>200)seen.add(p[i]<<16|p[i+1]<<8|p[i+2]);return seen.size>2}).length;
document.documentElement.setAttribute('data-result',JSON.stringify({plots:document.querySelectorAll('.plot').length,drawn,
wrong,hostile:typeof hostile!=='undefined',requests:performance.getEntriesByType('resource').length,
wide:document.documentElement.scrollWidth>document.documentElement.clientWidth}));
},200))</script>`
)

// Each page draws all its plots, without an error, without the network, and fits a narrow screen.
func TestHTMLInChromium(t *testing.T) {
	browser := chromium(t)
	dir := t.TempDir()
	f := func(name, size, want string) {
		t.Helper()
		page := pages(t)[name]
		file := filepath.Join(dir, name+".html")
		page = strings.Replace(page, `<style>`, probeBegin+`<style>`, 1)
		page = strings.Replace(page, `</body>`, probeEnd+`</body>`, 1)
		if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var out, log bytes.Buffer
		cmd := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND", "--user-data-dir="+filepath.Join(dir, "profile"),
			"--enable-logging=stderr", "--virtual-time-budget=3000", "--window-size="+size, "--dump-dom", "file://"+file)
		cmd.Stdout, cmd.Stderr = &out, &log
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, &log)
		}
		result := regexp.MustCompile(`data-result="([^"]*)"`).FindStringSubmatch(out.String())
		if result == nil {
			t.Fatalf("%s: the page did not load\n%s", name, &log)
		}
		if got := strings.ReplaceAll(result[1], "&quot;", `"`); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if strings.Contains(log.String(), "CONSOLE") {
			t.Errorf("%s: the console says\n%s", name, &log)
		}
	}
	well := func(plots int) string {
		return fmt.Sprintf(`{"plots":%d,"drawn":%d,"wrong":[],"hostile":false,"requests":0,"wide":false}`, plots, plots)
	}
	f("report", "1200,2000", well(11))
	f("report", "400,2000", well(11))
	f("faults", "1200,2000", well(11))
	f("one", "400,2000", well(5))
	f("compare", "1200,2000", well(10))
	f("compare", "400,2000", well(10))
	f("hostile", "1200,2000", well(11))
}

// chromium says where the browser is.
func chromium(t *testing.T) string {
	t.Helper()
	required := os.Getenv("TICKWIRE_CHROMIUM") != ""
	if testing.Short() && !required {
		t.Skip("it starts a browser seven times: make bench-html")
	}
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const need = "it needs Chromium: apt-get install chromium, or set CHROMIUM"
	if required {
		t.Fatal(need)
	}
	t.Skip(need)
	return ""
}
