package savedmodel

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"inceptor/savedmodel/tfpb"
)

// The layout of a version's directory, as TensorFlow
// (tensorflow/cc/saved_model/constants.h) and TensorFlow Serving have it.
const (
	graphFile = "saved_model.pb"
	assetsDir = "assets"
	extraDir  = "assets.extra"
)

// An Info is what a SavedModel's files tell about it.
type Info struct {
	Dir string `json:"dir"`
	// Complete: saved_model.pb is whole, every shard that the variables' index
	// names has exactly the size that the index demands, every asset that a
	// graph names exists, and the warm-up file, if there is one, ends where a
	// record does. Otherwise Missing says which file lacks what.
	Complete bool     `json:"complete"`
	Missing  []string `json:"missing,omitempty"`
	// Digest is left empty by Inspect, which does not read the shards; set it
	// from [Digest].
	Digest string `json:"digest,omitempty"`

	GraphBytes    int64       `json:"graph_bytes"` // of saved_model.pb
	Graphs        []MetaGraph `json:"graphs"`
	Variables     []Variable  `json:"variables"`      // by Key
	VariableBytes int64       `json:"variable_bytes"` // of all variables' values
	Shards        []Shard     `json:"shards"`
	Assets        []Asset     `json:"assets"` // by Path
	Extra         []File      `json:"extra"`  // files in assets.extra, by Path
	Warmup        *Warmup     `json:"warmup,omitempty"`
}

// A MetaGraph is one of the graphs in saved_model.pb; mostly there is one,
// tagged "serve".
type MetaGraph struct {
	Tags       []string             `json:"tags"`
	TensorFlow string               `json:"tensorflow"` // version that wrote it
	Nodes      int                  `json:"nodes"`      // of the main graph
	Functions  int                  `json:"functions"`
	Ops        []string             `json:"ops"` // kinds of operation used, sorted, if the writer listed them
	Signatures map[string]Signature `json:"signatures"`
}

// A Variable is a tensor in the variables' files.
type Variable struct {
	Name  string   `json:"name"` // in the program that wrote it; Key, shortened, if it has none
	Key   string   `json:"key"`  // in the index
	DType DataType `json:"dtype"`
	Shape Shape    `json:"shape"`
	Bytes int64    `json:"bytes"` // of its value on disk
}

// A Shard is a file with variables' values.
type Shard struct {
	Path  string `json:"path"`
	Size  int64  `json:"size"`  // bytes it has; -1 if it does not exist
	Wants int64  `json:"wants"` // bytes the index demands
}

// An Asset is a file in assets.
type Asset struct {
	File
	Tensor string `json:"tensor,omitempty"` // is fed the file's path at load; empty if no graph names the file
}

// Graph returns the graph that has exactly these tags.
func (i *Info) Graph(tags ...string) (MetaGraph, bool) {
	for _, g := range i.Graphs {
		if sameTags(g.Tags, tags) {
			return g, true
		}
	}
	return MetaGraph{}, false
}

// Inspect reads the SavedModel in dir, a version's directory, without
// TensorFlow. A version that is still being copied, or that is damaged, is no
// error: the result is not Complete, and holds what could be read. An error
// means that reading failed. It reads saved_model.pb, the variables' index and
// the warm-up file, in bounded memory, and a few bytes of the shards.
func Inspect(dir string) (*Info, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	if !st.IsDir() {
		return nil, fmt.Errorf("inspect %s: %w", dir, syscall.ENOTDIR)
	}
	in := inspector{dir: dir, info: &Info{Dir: dir}}
	for _, step := range []func() error{in.graphs, in.variables, in.assets, in.extra, in.warmup} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("inspect %s: %w", dir, err)
		}
	}
	in.info.Complete = len(in.info.Missing) == 0
	return in.info, nil
}

// An inspector fills an Info. Its steps return errors about reading only.
type inspector struct {
	dir    string
	info   *Info
	parsed []parsedGraph
}

func (in *inspector) missing(file, format string, args ...any) {
	in.info.Missing = append(in.info.Missing, printable(file)+": "+fmt.Sprintf(format, args...))
}

// judge takes an error about a file for a lack if it is one about contents.
func (in *inspector) judge(file string, err error) error {
	if errors.Is(err, ErrMalformed) {
		in.missing(file, "%v", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func (in *inspector) path(file string) string {
	return filepath.Join(in.dir, filepath.FromSlash(file))
}

func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// size returns a regular file's size, and false if there is none.
func (in *inspector) size(file string) (int64, bool, error) {
	st, err := os.Stat(in.path(file))
	switch {
	case absent(err):
		return 0, false, nil
	case err != nil:
		return 0, false, err
	}
	return st.Size(), st.Mode().IsRegular(), nil
}

// read opens a file for use, unless it is absent.
func (in *inspector) read(file string, use func(f *os.File, size int64) error) (found bool, err error) {
	size, ok, err := in.size(file)
	if err != nil || !ok {
		return false, err
	}
	f, err := os.Open(in.path(file))
	if absent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	return true, in.judge(file, use(f, size))
}

// otherForms are files that hold the same as saved_model.pb, with how a person makes that of them
// in their directory.
var otherForms = map[string]func(dir string) string{
	"saved_model.pbtxt": func(dir string) string {
		return "convert it, where Python has TensorFlow: cd " + shellWord(dir) + " && " + convertText
	},
	"saved_model.cpb": func(string) string { return "save it as " + graphFile },
}

// otherFormIn says what to do about a directory whose model has another form; empty: there is none.
func otherFormIn(dir string) (mend string) {
	for _, file := range slices.Sorted(maps.Keys(otherForms)) {
		if st, err := os.Stat(filepath.Join(dir, file)); err == nil && st.Mode().IsRegular() {
			mend += "; " + file + " does, which inceptor does not read: " + otherForms[file](dir)
		}
	}
	return mend
}

// convertText is the command that writes saved_model.pb from saved_model.pbtxt.
const convertText = `python3 -c "from google.protobuf import text_format as t; from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as S; ` +
	`open('saved_model.pb', 'wb').write(t.Parse(open('saved_model.pbtxt').read(), S()).SerializeToString())"`

var plainPath = regexp.MustCompile(`^[A-Za-z0-9_./-]+$`)

// shellWord is a path as a shell takes it.
func shellWord(path string) string {
	if plainPath.MatchString(path) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

func (in *inspector) graphs() error {
	found, err := in.read(graphFile, func(f *os.File, size int64) error {
		in.info.GraphBytes = size
		graphs, err := readGraphs(f, size)
		if err != nil {
			return err
		}
		if len(graphs) == 0 {
			return malformed(size, "no graph in the whole file")
		}
		in.parsed = graphs
		return nil
	})
	if err != nil {
		return err
	}
	if !found {
		in.missing(graphFile, "does not exist%s", otherFormIn(in.dir))
	}
	for _, g := range in.parsed {
		meta := g.def.GetMetaInfoDef()
		in.info.Graphs = append(in.info.Graphs, MetaGraph{
			Tags:       meta.GetTags(),
			TensorFlow: meta.GetTensorflowVersion(),
			Nodes:      g.nodes,
			Functions:  g.functions,
			Ops:        opNames(meta.GetStrippedOpList()),
			Signatures: signaturesOf(g.def),
		})
	}
	return nil
}

func opNames(list *tfpb.OpList) []string {
	names := make([]string, 0, len(list.GetOp()))
	for _, op := range list.GetOp() {
		names = append(names, op.GetName())
	}
	slices.Sort(names)
	return names
}

func (in *inspector) variables() error {
	var idx *bundleIndex
	found, err := in.read(indexFile, func(f *os.File, size int64) error {
		if size > maxIndexBytes {
			return malformed(0, "%d bytes, the limit is %d", size, maxIndexBytes)
		}
		b := make([]byte, size)
		if n, err := io.ReadFull(f, b); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return malformed(int64(n), "the file ends")
		} else if err != nil {
			return err
		}
		var err error
		idx, err = parseBundleIndex(b)
		return err
	})
	if err != nil {
		return err
	}
	if !found {
		in.wantVariables()
	}
	if idx == nil {
		return nil
	}

	wants := idx.shardSizes()
	for _, id := range slices.Sorted(maps.Keys(wants)) {
		s := Shard{Path: idx.shardFile(id), Wants: wants[id], Size: -1}
		size, ok, err := in.size(s.Path)
		switch {
		case err != nil:
			return err
		case !ok:
			in.missing(s.Path, "does not exist, wants %d bytes", s.Wants)
		case size != s.Wants:
			in.missing(s.Path, "has %d bytes, wants %d", size, s.Wants)
		}
		if ok {
			s.Size = size
		}
		in.info.Shards = append(in.info.Shards, s)
	}

	names, err := in.names(idx)
	if err != nil {
		return err
	}
	for _, e := range idx.entries {
		if e.isSlice() || e.key == objectGraphKey {
			continue
		}
		v := Variable{Name: names[e.key], Key: e.key, DType: e.dtype, Shape: e.shape, Bytes: e.bytes()}
		if v.Name == "" {
			v.Name = plainName(e.key)
		}
		in.info.Variables = append(in.info.Variables, v)
		in.info.VariableBytes += min(v.Bytes, math.MaxInt64-in.info.VariableBytes)
	}
	return nil
}

// wantVariables tells a model without variables from one whose variables have
// not arrived: TensorFlow would load both, and fail on the first run.
func (in *inspector) wantVariables() {
	for _, g := range in.parsed {
		if g.variables && g.def.GetSaverDef().GetRestoreOpName() != "" {
			in.missing(indexFile, "does not exist, but the graph restores variables")
			return
		}
	}
}

// names reads the variables' names from the shard that has them, if it is
// whole.
func (in *inspector) names(idx *bundleIndex) (map[string]string, error) {
	i := slices.IndexFunc(idx.entries, func(e bundleEntry) bool { return e.key == objectGraphKey && !e.sliced })
	if i < 0 {
		return nil, nil
	}
	file := idx.shardFile(idx.entries[i].shard)
	for _, s := range in.info.Shards {
		if s.Path == file && s.Size != s.Wants {
			return nil, nil
		}
	}
	var names map[string]string
	_, err := in.read(file, func(f *os.File, _ int64) (err error) {
		names, err = variableNames(idx.entries[i], f)
		return err
	})
	return names, err
}

func (in *inspector) assets() error {
	tensors := make(map[string]string)
	for _, g := range in.parsed {
		for _, a := range g.def.GetAssetFileDef() {
			if err := in.asset(a, tensors); err != nil {
				return err
			}
		}
	}
	files, err := in.list(assetsDir)
	for _, f := range files {
		in.info.Assets = append(in.info.Assets, Asset{f, tensors[f.Path]})
	}
	return err
}

func (in *inspector) asset(a *tfpb.AssetFileDef, tensors map[string]string) error {
	name := path.Join(assetsDir, a.GetFilename())
	if _, ok := tensors[name]; ok {
		return nil
	}
	tensors[name] = a.GetTensorInfo().GetName()
	if !filepath.IsLocal(filepath.FromSlash(a.GetFilename())) {
		in.missing(graphFile, "%v: asset %q leads out of %s", ErrMalformed, a.GetFilename(), assetsDir)
		return nil
	}
	_, ok, err := in.size(name)
	if err == nil && !ok {
		in.missing(name, "does not exist, but a graph names it")
	}
	return err
}

func (in *inspector) extra() (err error) {
	in.info.Extra, err = in.list(extraDir)
	return err
}

func (in *inspector) list(folder string) ([]File, error) {
	files, err := listFiles(in.dir, folder)
	if absent(err) { // or vanished meanwhile
		return nil, nil
	}
	return files, err
}
