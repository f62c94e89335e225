package helm

// Death is the end of a process that rendered a chart before it was done.
type Death struct {
	Message string // which bound was hit, and what to do
	// Passing: it may go well another time, with the same chart.
	Passing bool
}

func (d *Death) Error() string { return d.Message }
