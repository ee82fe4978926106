package wire_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/market"
	"github.com/tickwire/tickwire/pkg/wire"
)

// TestReferenceCodec generates a codec from tickwire.xml by the reference implementation of SBE, reads the golden frames with
// it, and compares what it saw with what went into them. The schema is validated on the way, by the generator and by the
// standard's own XML schema.
func TestReferenceCodec(t *testing.T) {
	needJava(t)
	dir := t.TempDir()
	jars := referenceJars(t)
	run(t, dir, "jar", "xf", only(t, filepath.Join(filepath.Dir(jars), "sbe-tool-*.jar")), "fpl/sbe.xsd")
	schema, err := filepath.Abs("tickwire.xml")
	if err != nil {
		t.Fatal(err)
	}
	reader, err := filepath.Abs("testdata/reference/Dump.java")
	if err != nil {
		t.Fatal(err)
	}
	frames, err := filepath.Abs(goldenDir)
	if err != nil {
		t.Fatal(err)
	}
	opens := "--add-opens=java.base/jdk.internal.misc=ALL-UNNAMED"
	warnings := run(t, dir, "java", opens, "-Dsbe.output.dir=generated", "-Dsbe.target.language=Java", "-Dsbe.validation.xsd=fpl/sbe.xsd",
		"-Dsbe.validation.stop.on.error=true", "-cp", jars, "uk.co.real_logic.sbe.SbeTool", schema)
	for line := range strings.Lines(warnings) {
		// Names that are words of other languages: their generators rename them.
		if !strings.Contains(line, "name is not valid for C#: in") && !strings.Contains(line, "name is not valid for Golang: close") {
			t.Errorf("the generator says: %s", line)
		}
	}
	sources, err := filepath.Glob(filepath.Join(dir, "generated/tickwire/*.java"))
	if err != nil || len(sources) == 0 {
		t.Fatal("nothing was generated", err)
	}
	run(t, dir, "javac", append([]string{"-nowarn", "-d", "classes", "-cp", jars, reader}, sources...)...)
	got := run(t, dir, "java", opens, "-cp", "classes"+string(os.PathListSeparator)+jars, "Dump", frames)

	var want []string
	for _, s := range samples() {
		if s.sbe() != nil {
			want = append(want, s.name+" "+dump(s.msg))
		}
	}
	slices.Sort(want)
	read := strings.Split(strings.TrimSpace(got), "\n")
	slices.Sort(read)
	for i := range max(len(want), len(read)) {
		if i >= len(want) || i >= len(read) || want[i] != read[i] {
			t.Fatalf("the reference codec reads\n%s\nand what went in was\n%s", at(read, i), at(want, i))
		}
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "nothing"
}

// needJava skips without Java and Maven, or fails when they are required.
func needJava(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"java", "javac", "jar", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing(t, err)
		}
	}
}

func missing(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("TICKWIRE_REQUIRE_JAVA") == "1" {
		t.Fatal(err)
	}
	t.Skipf("the reference codec needs Java 17 and Maven: %v", err)
}

// referenceJars fetches the reference implementation by Maven, once, into the cache, and returns the class path.
func referenceJars(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("TICKWIRE_CACHE")
	if cache == "" {
		cache = filepath.Join("..", "..", ".cache")
	}
	dir, err := filepath.Abs(filepath.Join(cache, "sbe-tool-1.38.1"))
	if err != nil {
		t.Fatal(err)
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "sbe-tool-*.jar")); len(found) == 0 {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		pom, err := filepath.Abs("testdata/reference/pom.xml")
		if err != nil {
			t.Fatal(err)
		}
		fetched, err := os.MkdirTemp(dir, "fetch-")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(fetched) }() // a leftover folder does no harm
		if out, err := command(t, dir, "mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DoutputDirectory="+fetched); err != nil {
			missing(t, fmt.Errorf("fetch the reference implementation of SBE: %w\n%s", err, out))
		}
		jars, _ := filepath.Glob(filepath.Join(fetched, "*.jar"))
		slices.Sort(jars) // sbe-tool, which says that the set is complete, is the last
		for _, jar := range jars {
			if err := os.Rename(jar, filepath.Join(dir, filepath.Base(jar))); err != nil {
				t.Fatal(err)
			}
		}
	}
	return filepath.Join(dir, "*")
}

func only(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: found %v, %v", pattern, found, err)
	}
	return found[0]
}

// run runs a command and returns what it printed.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	out, err := command(t, dir, name, args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return out
}

func command(t *testing.T, dir, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// dump prints a message as testdata/reference/Dump.java does, in the names of the schema.
func dump(msg any) string {
	switch m := msg.(type) {
	case *market.Snapshot:
		return "BookSnapshot" + dumpHead(&m.Head) + dumpView(m.Hash, m.View) + fmt.Sprintf(" part=%d of=%d", m.Part, m.Parts) +
			" bids=" + dumpLevels(m.Bids...) + " asks=" + dumpLevels(m.Asks...)
	case *market.Delta:
		return "BookUpdate" + dumpHead(&m.Head) + dumpView(m.Hash, m.View) + " bids=" + dumpLevels(m.Bids...) + " asks=" + dumpLevels(m.Asks...)
	case *market.Trade:
		side := map[market.Side]string{market.Bid: "BUY", market.Ask: "SELL", market.NoSide: "null"}[m.Side]
		return "Trade" + dumpHead(&m.Head) + fmt.Sprintf(" price=%d size=%d side=%s id=%x", m.Price, m.Size, side, m.ID.String())
	case *market.TradeGap:
		return "TradeGap" + dumpHead(&m.Head) + dumpMissed(m.Missed, m.Why)
	case *wire.BarGap:
		return "BarGap" + dumpHead(&m.Head) + dumpMissed(m.Missed, m.Why) + " iv=" + schemaInterval(m.Interval)
	case *market.Bar:
		return "Bar" + dumpHead(&m.Head) + fmt.Sprintf(" start=%d open=%d high=%d low=%d close=%d volume=%d trades=%d rev=%d iv=%s closed=%t incomplete=%t",
			m.Start.Micros(), m.Open, m.High, m.Low, m.Close, m.Volume, m.Trades, m.Rev, schemaInterval(m.Interval), m.Final, m.Incomplete)
	case *market.Status:
		i := &m.Instrument
		return "Status" + dumpHead(&m.Head) + fmt.Sprintf(" tick=%d ps=%d ss=%d state=%s book=%s why=%s sym=%x source=%x symbol=%x",
			i.TickSize, i.PriceScale, i.SizeScale, strings.ToUpper(m.State.String()), strings.ToUpper(m.Book.String()), schemaReason(m.Why),
			i.Sym, i.Source, i.Symbol)
	case *market.BBO:
		return "Bbo" + dumpHead(&m.Head) + " bid=" + dumpLevels(m.Bid) + " ask=" + dumpLevels(m.Ask)
	case *market.Ticker:
		return "Ticker" + dumpHead(&m.Head) + fmt.Sprintf(" last=[%d %d] bid=%s ask=%s open=%d high=%d low=%d volume=%d quote=%d trades=%d",
			m.Last, m.LastSize, dumpLevels(m.Bid), dumpLevels(m.Ask), m.Open, m.High, m.Low, m.Volume, m.Quote, m.Trades)
	case *wire.OwnerMarker:
		return fmt.Sprintf("OwnerMarker partition=%d algorithm=%d instance=%x", m.Partition, m.Version, m.Instance)
	case *wire.OwnerHeartbeat:
		s := fmt.Sprintf("OwnerHeartbeat ownerEpoch=%d inputOffset=%d inputLag=%d ts=%d partition=%d sources=",
			m.OwnerEpoch, m.InputOffset, m.InputLag, m.Time.Micros(), m.Partition)
		for _, c := range m.Sources {
			s += fmt.Sprintf("[%d %x]", c.Last.Micros(), c.Source)
		}
		return s
	case *wire.OwnerBatch:
		return fmt.Sprintf("OwnerBatch ownerEpoch=%d inputOffset=%d partition=%d algorithm=%d", m.OwnerEpoch, m.InputOffset, m.Partition, m.Version)
	case *wire.SnapshotPart:
		return fmt.Sprintf("SnapshotPart eventsOffset=%d inputOffset=%d ownerEpoch=%d inst=%d part=%d of=%d algorithm=%d kind=%d slot=%d payload=%x",
			m.EventsOffset, m.InputOffset, m.OwnerEpoch, m.Inst, m.Part, m.Parts, m.Version, m.Kind, m.Slot, m.Payload)
	case *wire.LogID:
		return fmt.Sprintf("LogId id=%x", m.ID)
	}
	return fmt.Sprintf("%T", msg)
}

func dumpHead(h *market.Head) string {
	return fmt.Sprintf(" inst=%d ep=%d prev=%d seq=%d ts=%d in=%d", h.Inst, h.Epoch, h.Prev, h.Seq, h.Time.Micros(), h.In.Micros())
}

func dumpView(h market.Hash, v market.View) string {
	sum := "null"
	if h.OK {
		sum = fmt.Sprintf("%016x", h.Sum)
	}
	return fmt.Sprintf(" h=%s depth=%d ms=%d", sum, v.Depth, v.Millis)
}

func dumpLevels(levels ...market.Level) (s string) {
	for _, l := range levels {
		s += fmt.Sprintf("[%d %d]", l.Price, l.Size)
	}
	return s
}

func dumpMissed(n int64, why market.Reason) string {
	missed := "null"
	if n >= 0 {
		missed = fmt.Sprint(n)
	}
	return " missed=" + missed + " why=" + schemaReason(why)
}

func schemaReason(r market.Reason) string {
	if r == market.NoReason {
		return "NONE"
	}
	return strings.ToUpper(r.String())
}

func schemaInterval(i market.Interval) string {
	return [...]string{"SECOND", "MINUTE", "MINUTES_5", "MINUTES_15", "HOUR", "HOURS_4", "DAY"}[i]
}
