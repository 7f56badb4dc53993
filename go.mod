module example.com/ovhauth

go 1.26.0

require (
	github.com/hashicorp/go-retryablehttp v0.7.8
	github.com/jarcoal/httpmock v1.4.2
	golang.org/x/oauth2 v0.37.0
	gopkg.in/ini.v1 v1.67.3
)

require github.com/hashicorp/go-cleanhttp v0.5.2 // indirect
