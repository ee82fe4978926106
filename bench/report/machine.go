package report

import (
	"bytes"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tickwire/tickwire/bench/proc"
)

// Machine is what ran the load, and the server too when it is local.
type Machine struct {
	Date   time.Time `json:"date"`
	CPU    string    `json:"cpu,omitempty"`
	Cores  int       `json:"cores"`
	System string    `json:"system"` // operating system, kernel, architecture
	Go     string    `json:"go"`
	Build  string    `json:"build,omitempty"` // revision of this program
	Load   string    `json:"load_average"`    // over the minute before the run
}

// Here is where we are.
func Here() Machine {
	m := Machine{
		Date: time.Now().UTC().Truncate(time.Second), Cores: runtime.NumCPU(), Go: runtime.Version(), Load: proc.LoadAverage(),
		System: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System = "Linux " + string(bytes.TrimSpace(b)) + ", " + runtime.GOARCH
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		_, rest, _ := strings.Cut(string(b), "model name")
		line, _, _ := strings.Cut(rest, "\n")
		m.CPU = strings.Trim(line, "\t :")
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				m.Build = s.Value[:min(12, len(s.Value))] + m.Build
			case s.Key == "vcs.modified" && s.Value == "true":
				m.Build += " with changes"
			}
		}
	}
	return m
}
