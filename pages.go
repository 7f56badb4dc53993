package ovhauth

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
)

// Pages asks for a list page by page. Of the API's lists, those below /v2 name the next page in the answer's header
// X-Pagination-Cursor-Next, and take a header X-Pagination-Size; those below /v1 come whole, unless a header X-Pagination-Mode
// asks for pages of full objects: CachedObjectList-Pages, which are numbered, or CachedObjectList-Cursor. Pages follows whichever
// the answers offer; a list that comes whole is one page.
//
// Each page is a copy of req, sent by client when the loop asks for it, and so signed anew; req may say where to begin, by
// X-Pagination-Cursor or X-Pagination-Number. Ranging again asks again. A body of req is opened by its GetBody for each page.
//
// A page is an answer of status 2xx. The loop may read its body and need not close it: it is closed when the next page is asked
// for, or the loop ends in whatever way. An error comes once, without a page, and is the last: an [*APIError] for another answer,
// that of client or of req's context, or one of this package for a cursor that comes again, which would go on for ever. [Elements]
// decodes the pages. The sequence may be used by several goroutines if client may.
func Pages(client *http.Client, req *http.Request) iter.Seq2[*http.Response, error] {
	return func(yield func(*http.Response, error) bool) {
		p := pager{client: client, req: req, header: req.Header.Clone(), seen: map[string]bool{}}
		if p.header == nil {
			p.header = http.Header{}
		}
		for more := true; more; {
			resp, err := p.ask()
			if err != nil {
				yield(nil, err)
				return
			}
			if !give(resp, yield) {
				return
			}
			if more, err = p.turn(resp.Header); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

const (
	cursorHeader = "X-Pagination-Cursor"
	modeHeader   = "X-Pagination-Mode"
	numberHeader = "X-Pagination-Number"
	sizeHeader   = "X-Pagination-Size"
)

// pager is one run through the pages of a list.
type pager struct {
	client *http.Client
	req    *http.Request
	header http.Header // of the next page
	seen   map[string]bool
}

func (p *pager) ask() (*http.Response, error) {
	ctx := p.req.Context()
	if err := ctx.Err(); err != nil {
		return nil, err // not every RoundTripper looks
	}
	if p.req.URL == nil {
		return nil, permanentErrorf("the request has no URL")
	}
	if p.numbered() && p.header.Get(numberHeader) == "" {
		p.header.Set(numberHeader, "1")
	}
	page := p.req.WithContext(ctx) // a copy
	page.Header = p.header.Clone()
	if hasBody(p.req) {
		if p.req.GetBody == nil {
			return nil, permanentErrorf("a list whose request has a body needs its GetBody, to send it for each page")
		}
		var err error
		if page.Body, err = p.req.GetBody(); err != nil {
			return nil, err
		}
	}
	resp, err := p.client.Do(page)
	if err != nil {
		return nil, askError(cmp.Or(p.req.Method, http.MethodGet), p.req.URL.EscapedPath(), err)
	}
	return resp, CheckResponse(resp)
}

func (p *pager) numbered() bool { return p.header.Get(modeHeader) == "CachedObjectList-Pages" }

// give lets the loop have a page, and closes it even if the loop panics.
func give(resp *http.Response, yield func(*http.Response, error) bool) bool {
	defer resp.Body.Close()
	return yield(resp, nil)
}

// turn makes the header ask for the page after the one whose answer had this header, and reports whether there is one.
func (p *pager) turn(answer http.Header) (more bool, err error) {
	if p.numbered() {
		return p.turnNumber(answer)
	}
	cursor := answer.Get("X-Pagination-Cursor-Next")
	if p.seen[cursor] {
		return false, permanentErrorf("%s: the API gave the same cursor twice; the list would never end", p.req.URL.EscapedPath())
	}
	p.seen[cursor] = true
	p.header.Set(cursorHeader, cursor)
	return cursor != "", nil
}

func (p *pager) turnNumber(answer http.Header) (more bool, err error) {
	elements, err := strconv.ParseInt(answer.Get("X-Pagination-Elements"), 10, 64)
	if err != nil {
		return false, nil // this list knows no pages: it came whole
	}
	number, _ := strconv.ParseInt(p.header.Get(numberHeader), 10, 64)
	size, _ := strconv.ParseInt(cmp.Or(answer.Get(sizeHeader), p.header.Get(sizeHeader)), 10, 64)
	if number < 1 || size < 1 {
		return false, permanentErrorf("%s: the size of a page is not known; set %s, and %s to 1 or more",
			p.req.URL.EscapedPath(), sizeHeader, numberHeader)
	}
	p.header.Set(numberHeader, strconv.FormatInt(number+1, 10))
	return number <= (elements-1)/size, nil
}

// Elements decodes the JSON arrays that pages hold into one sequence. Each element is decoded when the loop asks for it, with no
// more of the body in memory than that takes. An error comes once, with a zero T, and is the last: one of pages, or one of
// reading or decoding an answer. A page that is null has no elements.
func Elements[T any](pages iter.Seq2[*http.Response, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for resp, err := range pages {
			more := false
			if err == nil {
				more, err = decode(resp.Body, yield)
			}
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			if !more {
				return
			}
		}
	}
}

// decode yields the elements of a JSON array, and reports whether the loop wants more.
func decode[T any](body io.Reader, yield func(T, error) bool) (more bool, err error) {
	d := json.NewDecoder(body)
	start, err := d.Token()
	if err == nil && start == nil {
		return true, nil
	}
	if err == nil && start != json.Delim('[') {
		err = errors.New("it is no JSON array")
	}
	for err == nil && d.More() {
		var element T
		if err = d.Decode(&element); err == nil && !yield(element, nil) {
			return false, nil
		}
	}
	if err == nil {
		_, err = d.Token() // the ], or why there was no more
	}
	if err == nil {
		io.CopyN(io.Discard, body, 1<<10) // to its end, so that its connection can be used again
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return false, fmt.Errorf("ovhauth: reading a page of a list: %w", err)
	}
	return true, nil
}
