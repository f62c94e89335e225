package v1alpha1

import (
	"math"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// directorsSuffix makes the name of the directors' App of that of the LoadBalancer.
	directorsSuffix = "-director"
	// DirectorPort is where directors tell, in their own network, whether they are ready.
	DirectorPort = 9466
	// directorStop is what a director has to withdraw and to wait until nobody sends it anything any more.
	directorStop = 30 * time.Second

	directorPath     = "/ready"
	directorCPU      = "100m"
	directorMemory   = "128Mi"
	defaultDirectors = 2
)

// DirectorsName is the name of the App that the directors of a LoadBalancer are.
func DirectorsName(balancer string) string { return balancer + directorsSuffix }

// DirectorsApp is what the directors of a LoadBalancer are, as if an App of the same uid had been declared.
func DirectorsApp(b *LoadBalancer) *App {
	d := &b.Spec.Directors
	replicas := d.Wanted()
	a := &App{
		ObjectMeta: metav1.ObjectMeta{
			UID: b.UID, Namespace: b.Namespace, Name: DirectorsName(b.Name), Generation: b.Generation, CreationTimestamp: b.CreationTimestamp,
		},
		Spec: AppSpec{
			Replicas: &replicas,
			Template: Template{
				Command: []string{"/proc/self/exe", "director"}, Resources: *d.Resources.DeepCopy(),
				Ports:        []Port{{Name: "status", Port: DirectorPort, Protocol: ProtocolTCP}},
				HealthChecks: directorChecks(),
				Stop:         Stop{GracePeriod: &metav1.Duration{Duration: directorStop}},
			},
			Placement: *d.Placement.DeepCopy(), Update: d.Update,
		},
	}
	for _, n := range d.Networks {
		a.Spec.Networks = append(a.Spec.Networks, *n.DeepCopy())
	}
	r := &a.Spec.Template.Resources
	if r.CPU == nil {
		q := resource.MustParse(directorCPU)
		r.CPU = &q
	}
	if r.Memory == nil {
		q := resource.MustParse(directorMemory)
		r.Memory = &q
	}
	if len(a.Spec.Placement.Constraints) == 0 {
		a.Spec.Placement.Constraints = []Constraint{{Attribute: "hostname", Operator: "Unique"}}
	}
	return a
}

// directorChecks: a director that does not answer at all is restarted; one that answers that it is not ready, because it has
// no session with a router for example, is not, however long that lasts.
func directorChecks() []HealthCheck {
	check := func(failures int32, statuses ...int32) HealthCheck {
		return HealthCheck{
			HTTP:     &HTTPProbe{Port: DirectorPort, Path: directorPath, Statuses: statuses},
			Interval: &metav1.Duration{Duration: time.Second}, Timeout: &metav1.Duration{Duration: time.Second},
			FailureThreshold: failures, SuccessThreshold: 1,
		}
	}
	return []HealthCheck{check(math.MaxInt32, 200), check(10, 200, 503)}
}

// Wanted is the number of directors wanted; 2 when nothing is said.
func (d *Directors) Wanted() int32 {
	if d.Replicas == nil {
		return defaultDirectors
	}
	return *d.Replicas
}

// directorsFields turns the fields of DirectorsApp into those of the LoadBalancer.
var directorsFields = strings.NewReplacer(
	"spec.networks", "spec.directors.networks",
	"spec.placement", "spec.directors.placement",
	"spec.template.resources", "spec.directors.resources",
)

// OfDirectors turns what was said of DirectorsApp into the words of the LoadBalancer.
func OfDirectors(text string) string { return directorsFields.Replace(text) }
