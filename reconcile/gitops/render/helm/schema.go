package helm

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	chart "helm.sh/helm/v4/pkg/chart/v2"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

const schemaFile = "values.schema.json"

// validate holds values against the schemas of a chart and its subcharts. helm's own way would read files and fetch what a schema
// refers to.
func validate(c *chart.Chart, values map[string]any, dir string, src *sources) []Problem {
	var ps []Problem
	if c.Schema != nil {
		ps = against(c.Schema, values, dir+schemaFile, src)
	}
	for _, sub := range c.Dependencies() {
		of := dir + "charts/" + sub.Name() + "/"
		switch v := values[sub.Name()].(type) {
		case nil:
		case map[string]any:
			ps = append(ps, validate(sub, v, of, src)...)
		default:
			ps = append(ps, Problem{File: dir + ValuesFile, Field: sub.Name(), Message: "not a mapping: these are the values of a subchart"})
		}
	}
	return ps
}

func against(schema []byte, values map[string]any, file string, src *sources) []Problem {
	broken := func(err error) []Problem {
		return []Problem{{File: file, Message: "not a schema that can be used: " + src.clean(err.Error())}}
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return broken(err)
	}
	const name = "mem:///" + schemaFile
	c := jsonschema.NewCompiler()
	c.UseLoader(nothing{})
	if err := c.AddResource(name, doc); err != nil {
		return broken(err)
	}
	s, err := c.Compile(name)
	if err != nil {
		return broken(err)
	}
	var wrong *jsonschema.ValidationError
	if !errors.As(s.Validate(values), &wrong) {
		return nil
	}
	known := sources{texts: append([][]byte{schema}, src.texts...), leaves: src.leaves}
	return leaves(wrong, file, &known)
}

// nothing fetches what a schema refers to.
type nothing struct{}

func (nothing) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s: nothing is fetched: copy what it refers to into the schema, below $defs", url)
}

func leaves(e *jsonschema.ValidationError, file string, src *sources) []Problem {
	if len(e.Causes) > 0 {
		var ps []Problem
		for _, cause := range e.Causes {
			ps = append(ps, leaves(cause, file, src)...)
		}
		return ps
	}
	field := "values"
	if len(e.InstanceLocation) > 0 {
		field += "." + strings.Join(e.InstanceLocation, ".")
	}
	return []Problem{{File: file, Field: field, Message: src.clean(e.ErrorKind.LocalizedString(message.NewPrinter(language.English)))}}
}
