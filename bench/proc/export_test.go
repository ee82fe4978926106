package proc

import "fmt"

// ThreadUsage is UsageOf for one thread of this process.
func ThreadUsage(tid int) (Usage, error) { return usage(fmt.Sprintf("/proc/self/task/%d", tid)) }
