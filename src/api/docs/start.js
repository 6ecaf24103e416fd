// Shows the document beside this page. The validator is a service elsewhere that would be told of it.
SwaggerUIBundle({ url: "openapi.json", dom_id: "#docs", deepLinking: true, validatorUrl: null });
