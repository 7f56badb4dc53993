package ovhauth

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"gopkg.in/ini.v1"
)

// defaultConf is a variable for the tests, which must not depend on the machine's files.
var defaultConf = []string{"/etc/ovh.conf", "~/.ovh.conf", "./ovh.conf"}

// confPath is a file to read, as it was named and as it is opened.
type confPath struct{ name, full string }

// confPaths are the files to read, the one of lowest precedence first: those given, else the default ones.
func confPaths(given []string) (paths []confPath) {
	names := given
	if len(names) == 0 {
		names = defaultConf
	}
	home, err := os.UserHomeDir()
	for _, name := range names {
		path := confPath{name, name}
		if rest, ok := strings.CutPrefix(name, "~/"); ok && err == nil {
			path.full = filepath.Join(home, rest)
		} else if ok && len(given) == 0 {
			continue // without a home directory, "~" would be one in the working directory
		}
		paths = append(paths, path)
	}
	return paths
}

// conf is what the files say.
type conf struct {
	files  []confFile // the one of highest precedence first
	unread []error    // of the optional files that exist and cannot be read
}

type confFile struct {
	confPath
	sections map[string]map[string]string
	mode     fs.FileMode
}

// readConf reads the files given, or else the default ones. With an error it also returns those that it could read.
func readConf(ctx context.Context, given []string) (c conf, failed error) {
	optional := len(given) == 0
	for _, path := range slices.Backward(confPaths(given)) {
		file, broken, err := readFile(ctx, path)
		switch {
		case ctx.Err() != nil:
			return c, ctx.Err()
		case optional && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)):
			// A home directory may be /dev/null.
		case optional && err != nil:
			c.unread = append(c.unread, err)
		case err != nil:
			failed = cmp.Or(failed, permanentErrorf("cannot read the configuration: %w", err))
		case broken > 0:
			failed = cmp.Or(failed, permanentErrorf("%s, line %d: neither a [section] nor key=value", path.full, broken))
		default:
			c.files = append(c.files, file)
		}
	}
	return c, failed
}

const (
	maxConf  = 1 << 20
	maxLines = 10_000 // that are neither blank nor a comment: ini.v1 takes time by the square of their number, a minute for a full MiB
)

var confLine = regexp.MustCompile(`(?m)^\s*[^#;\s]`)

// readFile reads a regular file of at most maxConf bytes, or returns the number of its first broken line. It returns when ctx ends:
// a network file system may never reply.
func readFile(ctx context.Context, path confPath) (file confFile, broken int, err error) {
	if err := ctx.Err(); err != nil {
		return confFile{}, 0, err
	}
	type result struct {
		file   confFile
		broken int
		err    error
	}
	done := make(chan result, 1)
	go func() {
		r := result{file: confFile{confPath: path}}
		var text []byte
		if text, r.file.mode, r.err = readRegular(path.full); r.err == nil {
			r.file.sections, r.broken = parseConf(text)
		}
		done <- r
	}()
	select {
	case r := <-done:
		return r.file, r.broken, r.err
	case <-ctx.Done():
		return confFile{}, 0, ctx.Err()
	}
}

func readRegular(path string) (text []byte, mode fs.FileMode, err error) {
	info, err := os.Stat(path) // before it is opened: opening a pipe waits for its writer
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	text, err = io.ReadAll(io.LimitReader(file, maxConf+1))
	if err == nil && len(text) > maxConf {
		err = fmt.Errorf("%s is larger than 1 MiB", path)
	}
	if err == nil && len(confLine.FindAllIndex(text, maxLines+1)) > maxLines {
		err = fmt.Errorf("%s has more than %d lines besides comments", path, maxLines)
	}
	return text, info.Mode(), err
}

// isExposed reports whether the file holds keys and others than its owner can read it. Windows does not say so in the mode.
func (f confFile) isExposed() bool {
	if runtime.GOOS == "windows" || f.mode.Perm()&0o044 == 0 {
		return false
	}
	for _, values := range f.sections {
		for _, key := range slices.Concat(kinds...) {
			if values[key] != "" {
				return true
			}
		}
	}
	return false
}

// names reports whether the file itself says that the keys of its section are for e.
func (f confFile) names(section string, e *parsedEndpoint) bool {
	for _, name := range []string{section, cmp.Or(f.sections[section]["endpoint"], f.sections["default"]["endpoint"])} {
		if of, err := parseEndpoint(Endpoint(name)); err == nil && of.same(e) {
			return true
		}
	}
	return false
}

// confOptions and confKey make ini.v1 read a value as Python's RawConfigParser does: all that stands between the first = or :
// and the end of the line, but for the white space around it. A NUL in front of it hides quotes from ini.v1.
var confOptions = ini.LoadOptions{
	InsensitiveKeys:     true,
	IgnoreInlineComment: true,
	IgnoreContinuation:  true,
}

var confKey = regexp.MustCompile(`(?m)^(?:[ \t]*[^\[\s=:][^=:\n]*)?[=:]`)

// parseConf returns the sections of a file, or else the number of its first broken line.
func parseConf(text []byte) (sections map[string]map[string]string, broken int) {
	text = bytes.TrimPrefix(text, []byte("\uFEFF")) // the byte order mark of some editors
	text = confKey.ReplaceAll(text, []byte("${0}\x00"))
	file, err := ini.LoadSources(confOptions, text)
	if err != nil { // which must not be shown: it quotes the line, and the line may hold a secret
		for line := range bytes.Lines(text) {
			broken++
			if _, err := ini.LoadSources(confOptions, line); err != nil {
				break
			}
		}
		return nil, broken
	}
	sections = map[string]map[string]string{}
	for _, section := range file.Sections() {
		values := section.KeysHash()
		for key, value := range values {
			values[key] = strings.TrimSpace(strings.TrimPrefix(value, "\x00"))
		}
		sections[section.Name()] = values
	}
	return sections, 0
}

// get returns the value of highest precedence, and the path of its file. An empty one is none.
func (c conf) get(section, key string) (value, path string) {
	for _, file := range c.files {
		if value := file.sections[section][key]; value != "" {
			return value, file.full
		}
	}
	return "", ""
}

// profile returns the section of the profile in use, "" for none. The profile "default" is none: the OVHcloud CLI's
// doc/profiles.md says so, and that nothing outside of a profile's section completes it.
func (c conf) profile() string {
	selected, _ := c.get("default", "profile")
	name := cmp.Or(strings.TrimSpace(os.Getenv("OVH_PROFILE")), selected)
	if name == "" || name == "default" {
		return ""
	}
	return "profile:" + name
}

// endpoint returns the endpoint that the files name, and the path of the file that does; EU and "" if none does.
func (c conf) endpoint() (e Endpoint, path string) {
	for _, section := range []string{c.profile(), "default"} {
		if value, path := c.get(section, "endpoint"); value != "" {
			return Endpoint(value), path
		}
	}
	return EU, ""
}

// sectionNames are the sections that hold credentials for e.
func (c conf) sectionNames(e *parsedEndpoint) ([]string, error) {
	if profile := c.profile(); profile != "" {
		if !slices.ContainsFunc(c.files, func(f confFile) bool { return f.sections[profile] != nil }) {
			return nil, permanentErrorf("there is no section [%s] in ovh.conf; OVH_PROFILE, or profile in [default], asks for it", profile)
		}
		named, _ := c.get(profile, "endpoint")
		if named == "" {
			return []string{profile}, nil
		}
		of, err := parseEndpoint(Endpoint(named))
		if err != nil {
			return nil, err
		}
		if of.same(e) {
			return []string{profile}, nil
		}
	}
	names := []string{e.name()}
	for _, file := range c.files {
		for _, name := range slices.Sorted(maps.Keys(file.sections)) {
			if of, err := parseEndpoint(Endpoint(name)); err == nil && of.same(e) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// sources are the sections with credentials for e, the one of highest precedence first.
func (c conf) sources(e *parsedEndpoint) ([]source, error) {
	names, err := c.sectionNames(e)
	var sources []source
	for _, file := range c.files {
		for _, name := range names {
			if values, ok := file.sections[name]; ok {
				sources = append(sources, source{"[" + name + "] of " + file.name, values, asWritten, !e.trusted() && !file.names(name, e)})
			}
		}
	}
	return sources, err
}
