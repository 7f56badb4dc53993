module example.com/ovhauth

go 1.26

require github.com/jarcoal/httpmock v1.4.2
