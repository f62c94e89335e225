// Package words makes errors in the words of Apache Mesos, which begin with a capital and sometimes end in a line
// break; clients and operators know them. Pure.
package words

import "fmt"

// Errorf is fmt.Errorf for texts that are not ours to phrase.
func Errorf(format string, args ...any) error { return fmt.Errorf(format, args...) }
