package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/resource"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"padis.io/padis/api/plan"
	"padis.io/padis/reconcile/gitops"
	"padis.io/padis/reconcile/gitops/render"
	"padis.io/padis/reconcile/gitops/render/helm"
	"padis.io/padis/reconcile/gitops/render/helm/child"
	"padis.io/padis/reconcile/gitops/render/sops"
	"padis.io/padis/reconcile/gitops/source"
)

// repository is what --git and the flags that go with it name.
type repository struct {
	url, ref, path string
	variables      []string
	keys           string
}

// fetch renders a commit into a file of manifests, which it names in files. Who has read it calls the function.
func (r *repository) fetch(ctx context.Context, f cmdutil.Factory, streams genericiooptions.IOStreams, files *resource.FilenameOptions) (func(), error) {
	charts := child.New(child.Bounds{})
	// The release is called as helm template calls one without a name.
	in := render.Input{Path: r.path, Release: "release-name", Chart: func(req helm.Request) (helm.Response, error) { return charts.Render(ctx, req) }}
	var err error
	if in.Default, _, err = f.ToRawKubeConfigLoader().Namespace(); err != nil {
		return nil, err
	}
	for _, v := range r.variables {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return nil, usagef("--var %q: write it as NAME=VALUE", v)
		}
		if in.Variables == nil {
			in.Variables = map[string]string{}
		}
		in.Variables[name] = value
	}
	if r.keys != "" {
		keys, err := os.ReadFile(r.keys)
		if err == nil {
			in.Decrypt, err = sops.Parse(string(keys))
		}
		if err != nil {
			return nil, fmt.Errorf("--age-keys: %w", err)
		}
	}
	// Only this user may read it: there may be Secrets in it.
	dir, err := os.MkdirTemp("", "padis-plan-")
	if err != nil {
		return nil, err
	}
	clean := func() { _ = os.RemoveAll(dir) }
	files.Filenames = []string{filepath.Join(dir, "manifests.json")}
	if err = r.render(ctx, streams, in, dir, files.Filenames[0]); err != nil {
		clean()
		return nil, err
	}
	return clean, nil
}

func (r *repository) render(ctx context.Context, streams genericiooptions.IOStreams, in render.Input, dir, file string) error {
	url := r.url
	if s, err := os.Stat(url); err == nil && s.IsDir() {
		if url, err = filepath.Abs(url); err != nil {
			return err
		}
		url = "file://" + filepath.ToSlash(url)
	}
	cache, err := source.Open(filepath.Join(dir, "git"), source.Options{FileRoots: []string{"/"}})
	if err != nil {
		return err
	}
	rev, err := gitops.FetchRef(ctx, cache, source.Spec{Name: "plan", URL: url}, r.ref)
	if err != nil {
		return fmt.Errorf("--git: %w", err)
	}
	commit := rev.Commit
	if rev.Ref != "" {
		commit += " of " + rev.Ref
	}
	fmt.Fprintf(streams.ErrOut, "commit %s from %s\n", commit, r.url)
	tree, err := cache.Tree(rev, ".")
	if err != nil {
		return fmt.Errorf("--git: %w", err)
	}
	defer tree.Close()
	in.FS = tree
	objects, wrong := render.Render(in)
	if len(wrong) > 0 {
		lines := make([]string, len(wrong))
		for i, w := range wrong {
			lines[i] = w.String()
		}
		return errors.New("--git: the manifests are broken:\n  " + strings.Join(lines, "\n  "))
	}
	all := make([]json.RawMessage, len(objects))
	for i, o := range objects {
		if all[i], err = json.Marshal(o.Object); err != nil {
			return err
		}
	}
	list, err := asList(all)
	if err != nil {
		return err
	}
	return os.WriteFile(file, list, 0o600)
}

// planSync tells what a Sync would do.
func planSync(ctx context.Context, f cmdutil.Factory, o *planFlags) (*plan.Plan, error) {
	dir, err := os.MkdirTemp("", "padis-plan-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	in := gitops.PreviewInput{Name: o.sync, Ref: o.repository.ref, Dir: dir, Charts: child.New(child.Bounds{}).Render, Now: time.Now()}
	if in.Config, err = f.ToRESTConfig(); err != nil {
		return nil, err
	}
	if in.Mapper, err = f.ToRESTMapper(); err != nil {
		return nil, err
	}
	if in.Namespace, _, err = f.ToRawKubeConfigLoader().Namespace(); err != nil {
		return nil, err
	}
	if len(o.files.Filenames) > 0 {
		in.From = o.files.Filenames[0]
		copied, done, err := workingCopy(in.From)
		if err != nil {
			return nil, err
		}
		defer done()
		in.Files = copied
	}
	var seen *gitops.Preview
	p, err := askAgain(ctx, f, func() ([]plan.Proposal, error) {
		var err error
		if seen, err = in.Look(ctx); err != nil {
			return nil, err
		}
		return seen.Proposals, nil
	})
	if err != nil {
		return nil, err
	}
	p.Sync, p.Kept, p.Violations = &seen.Sync, seen.Kept, append(p.Violations, seen.Violations...)
	p.Objects = append(p.Objects, seen.Unchanged...)
	return p, nil
}

// workingCopy opens a directory, of which nothing outside is read.
func workingCopy(dir string) (fs.FS, func(), error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("-f: %w: with --sync, give the directory that holds the whole repository", err)
	}
	return root.FS(), func() { _ = root.Close() }, nil
}
