// Package helm renders charts by helm's library, as `helm template` would: there is no cluster to look things up in, no network and
// no release. It is slow or fast as the chart says, and may take any amount of memory: run it in a process with bounds (child).
// Edge: talks to helm's library, which is given the files of a chart.
//
// What a chart renders to must not depend on time and chance. Each chart is rendered twice, with another time and other
// random values, and refused where the difference shows.
package helm

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	chartlib "helm.sh/helm/v4/pkg/chart"
	"helm.sh/helm/v4/pkg/chart/common"
	commonutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
)

// Names of files that make a directory a chart, and that say what of it is none of the chart's.
const (
	ChartFile  = "Chart.yaml"
	ValuesFile = "values.yaml"
	IgnoreFile = ".helmignore"
)

// unpacked bounds each archive in charts/, in bytes.
const unpacked = 16 << 20

// Request is a chart, and what its templates see beside it.
type Request struct {
	Files       []File   `json:"files"`                 // of the chart, named from its directory on
	Values      [][]byte `json:"values,omitempty"`      // JSON objects; later ones win, and all win over values.yaml
	Release     string   `json:"release"`               // .Release.Name
	Namespace   string   `json:"namespace"`             // .Release.Namespace
	APIVersions []string `json:"apiVersions,omitempty"` // .Capabilities.APIVersions
}

// Response is what a chart comes to. If there are problems, there are no files.
type Response struct {
	Files    []File    `json:"files,omitempty"` // what each template came to, in the order of their names
	Problems []Problem `json:"problems,omitempty"`
}

// File is a file of a chart, or what a template of that name came to.
type File struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// Problem is what is wrong with a chart, and where.
type Problem struct {
	File    string `json:"file"` // from the directory of the chart on
	Line    int    `json:"line,omitempty"`
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
}

func refused(file string, line int, format string, args ...any) Response {
	return Response{Problems: []Problem{{File: file, Line: line, Message: fmt.Sprintf(format, args...)}}}
}

// Render renders a chart. It never panics, and takes nothing from the world but the clock.
func Render(req Request) (res Response) {
	defer func() {
		if recover() != nil {
			// What the panic says may quote values.
			res = refused(ChartFile, 0, "helm's library cannot read the chart: look at what `helm lint` says")
		}
	}()
	archive.MaxDecompressedChartSize = unpacked
	first, broken := render(req, 0)
	if broken != nil {
		return *broken
	}
	second, broken := render(req, 1)
	if broken != nil {
		p := &broken.Problems[0]
		p.Message = "renders at one time, and at another does not: " + p.Message
		return *broken
	}
	for i, f := range first {
		if i >= len(second) || second[i].Name != f.Name {
			return refused(ChartFile, 0, "which templates it has changes each time it is rendered: %s", steady)
		}
		if n := differs(f.Data, second[i].Data); n > 0 {
			res.Problems = append(res.Problems, Problem{File: f.Name, Message: fmt.Sprintf("line %d of what it renders changes each time: %s", n, steady)})
		}
	}
	if len(res.Problems) == 0 {
		res.Files = first
	}
	return res
}

const steady = "what is declared must not depend on time, chance or the cluster (now, randAlphaNum, uuidv4, genCA, htpasswd, lookup): set the value that it stands for in spec.helm.values"

// differs gives the number of the first line that is not the same.
func differs(a, b []byte) int {
	if bytes.Equal(a, b) {
		return 0
	}
	n := 1
	for i := 0; i < len(a) && i < len(b) && a[i] == b[i]; i++ {
		if a[i] == '\n' {
			n++
		}
	}
	return n
}

// render renders a chart once.
func render(req Request, turn int) ([]File, *Response) {
	fail := func(r Response) ([]File, *Response) { return nil, &r }
	files := make([]*archive.BufferedFile, 0, len(req.Files))
	src := sources{}
	for _, f := range req.Files {
		files = append(files, &archive.BufferedFile{Name: f.Name, Data: slices.Clone(f.Data)})
		if f.Name != ValuesFile && path.Base(f.Name) != ValuesFile {
			src.texts = append(src.texts, f.Data)
		}
	}
	c, err := loader.LoadFiles(files)
	if err != nil {
		return fail(Response{Problems: []Problem{unreadable(err, &src)}})
	}
	src.packed(c)
	if c.Metadata.APIVersion != chart.APIVersionV1 && c.Metadata.APIVersion != chart.APIVersionV2 {
		return fail(refused(ChartFile, line(req, ChartFile, "apiVersion"), "apiVersion: not known: it is v1 or v2"))
	}
	if c.Metadata.Type == "library" {
		return fail(refused(ChartFile, line(req, ChartFile, "type"), "type: a library chart declares nothing by itself: vendor it in charts/ of the chart that uses it"))
	}
	if ps := missing(req, c); len(ps) > 0 {
		return fail(Response{Problems: ps})
	}
	values := map[string]any{}
	for _, v := range req.Values {
		layer, err := loader.LoadValues(bytes.NewReader(v))
		if err != nil {
			return fail(refused(ValuesFile, 0, "values that are not a mapping"))
		}
		values = loader.MergeMaps(values, layer)
	}
	if err := chartutil.ProcessDependencies(c, values); err != nil {
		return fail(refused(ChartFile, line(req, ChartFile, "dependencies"), "dependencies: %s", src.clean(err.Error())))
	}
	for _, crd := range c.CRDObjects() {
		return fail(refused(inside(c, crd.Filename), 0, "Padis serves no custom resource definitions: remove the directory crds, or add it to %s", IgnoreFile))
	}
	caps := common.DefaultCapabilities.Copy()
	caps.APIVersions = req.APIVersions
	if v := c.Metadata.KubeVersion; v != "" && !chartutil.IsCompatibleRange(v, caps.KubeVersion.String()) {
		return fail(refused(ChartFile, line(req, ChartFile, "kubeVersion"), "kubeVersion: the chart is not for version %s of the API, which Padis has: use a version of the chart that is", caps.KubeVersion.Version))
	}
	with, err := commonutil.ToRenderValuesWithSchemaValidation(c, values, common.ReleaseOptions{Name: req.Release, Namespace: req.Namespace, Revision: 1, IsInstall: true}, caps, true)
	if err != nil {
		return fail(refused(ValuesFile, 0, "values that cannot be merged: %s", src.clean(err.Error())))
	}
	merged, _ := with["Values"].(common.Values)
	src.values(merged.AsMap())
	if ps := validate(c, merged.AsMap(), "", &src); len(ps) > 0 {
		return fail(Response{Problems: ps})
	}
	out, err := engine.Engine{CustomTemplateFuncs: funcs(turn)}.RenderWithContext(context.Background(), c, with)
	if err != nil {
		return fail(Response{Problems: []Problem{failure(c, err, &src)}})
	}
	var rendered []File
	for name, text := range out {
		if base := path.Base(name); base != "NOTES.txt" && strings.TrimSpace(text) != "" {
			rendered = append(rendered, File{inside(c, name), []byte(text)})
		}
	}
	slices.SortFunc(rendered, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return rendered, nil
}

// missing names what Chart.yaml depends on that is not there: nothing is fetched.
func missing(req Request, c *chart.Chart) []Problem {
	file := ChartFile
	if c.Metadata.APIVersion == chart.APIVersionV1 {
		file = "requirements.yaml"
	}
	var ps []Problem
	for i, d := range c.Metadata.Dependencies {
		if d == nil || slices.ContainsFunc(c.Dependencies(), func(s *chart.Chart) bool { return s.Name() == d.Name }) {
			continue
		}
		ps = append(ps, Problem{File: file, Line: line(req, file, "dependencies", i), Field: fmt.Sprintf("dependencies[%d]", i),
			Message: fmt.Sprintf("the chart %s is not in charts/, and nothing is fetched: run `helm dependency build` and commit charts/", d.Name)})
	}
	return ps
}

// inside is a name of helm's, which begins with that of the chart, from the directory of the chart on.
func inside(c chartlib.Charter, name string) string {
	a, err := chartlib.NewAccessor(c)
	if err != nil {
		return name
	}
	return strings.TrimPrefix(name, a.Name()+"/")
}
