// Renders the chart without Helm, as far as this chart goes: Go templates with sprig, and `include`,
// `tpl`, `toYaml` and `fail` as Helm has them. scripts/deploy-check uses it where there is no helm.
//
// usage: render CHART KUBERNETES-VERSION [VALUES ...]
package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v3"
)

type values = map[string]interface{}

func read(path string, into interface{}) {
	text, err := os.ReadFile(path)
	check(err)
	check(yaml.Unmarshal(text, into))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// What is in `over` takes the place of what is in `under`, tables member by member.
func merge(under, over values) {
	for key, value := range over {
		old, wasTable := under[key].(values)
		if table, isTable := value.(values); isTable && wasTable {
			merge(old, table)
		} else {
			under[key] = value
		}
	}
}

// Helm takes chart metadata by its Go names.
func capitalised(table values) values {
	all := values{}
	for key, value := range table {
		all[strings.ToUpper(key[:1])+key[1:]] = value
	}
	return all
}

func functions(root *template.Template) template.FuncMap {
	all := sprig.TxtFuncMap()
	delete(all, "env")
	delete(all, "expandenv")
	all["include"] = func(name string, data interface{}) (string, error) {
		var out bytes.Buffer
		err := root.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	all["tpl"] = func(text string, data interface{}) (string, error) {
		inner, err := template.Must(root.Clone()).New("tpl").Parse(text)
		if err != nil {
			return "", err
		}
		var out bytes.Buffer
		err = inner.Execute(&out, data)
		return out.String(), err
	}
	all["toYaml"] = func(value interface{}) (string, error) {
		var out bytes.Buffer
		encoder := yaml.NewEncoder(&out)
		encoder.SetIndent(2)
		err := encoder.Encode(value)
		return strings.TrimSuffix(out.String(), "\n"), err
	}
	all["required"] = func(why string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, fmt.Errorf("%s", why)
		}
		return value, nil
	}
	return all
}

func main() {
	if len(os.Args) < 3 {
		check(fmt.Errorf("usage: render CHART KUBERNETES-VERSION [VALUES ...]"))
	}
	chart, version := os.Args[1], os.Args[2]
	about, all := values{}, values{}
	read(filepath.Join(chart, "Chart.yaml"), &about)
	read(filepath.Join(chart, "values.yaml"), &all)
	for _, path := range os.Args[3:] {
		more := values{}
		read(path, &more)
		merge(all, more)
	}
	root := template.New("chart").Option("missingkey=error")
	root.Funcs(functions(root))
	files, err := filepath.Glob(filepath.Join(chart, "templates", "*"))
	check(err)
	sort.Strings(files)
	for _, path := range files {
		text, err := os.ReadFile(path)
		check(err)
		_, err = root.New("tidegate/templates/" + filepath.Base(path)).Parse(string(text))
		check(err)
	}
	data := values{
		"Values":       all,
		"Chart":        capitalised(about),
		"Release":      values{"Name": "gateway", "Namespace": "default", "Service": "Helm", "IsInstall": true},
		"Capabilities": values{"KubeVersion": values{"Version": version}},
		"Template":     values{"BasePath": "tidegate/templates"},
	}
	for _, path := range files {
		name := filepath.Base(path)
		if strings.HasPrefix(name, "_") {
			continue
		}
		var out bytes.Buffer
		check(root.ExecuteTemplate(&out, "tidegate/templates/"+name, data))
		text := strings.TrimSpace(out.String())
		if name == "NOTES.txt" {
			fmt.Fprintln(os.Stderr, text)
		} else if text != "" {
			fmt.Printf("---\n# Source: %s\n%s\n", name, text)
		}
	}
}
