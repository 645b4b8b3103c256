"use strict";

// Shows one of the two documents; the part of the address after # names which, so that a link can lead to either.
(() => {
  const documents = {
    grid: "/openapi/grid.json",
    blips: "/openapi/blips.json",
  };
  const styles = `
    body { margin: 0; background: #fafafa; }
    header { display: flex; flex-wrap: wrap; gap: 0.5rem 2rem; align-items: center; padding: 0.75rem 1.25rem;
      background: #1b1b1b; color: #fff; font: 1rem sans-serif; }
    header select { margin-left: 0.5rem; padding: 0.25rem 0.5rem; font: inherit; }
    header a { color: #9cf; }
  `;
  const select = document.getElementById("dialect");
  const link = document.getElementById("document");

  function named() {
    const name = location.hash.slice(1);
    return Object.hasOwn(documents, name) ? name : "grid";
  }

  function mark(name) {
    select.value = name;
    link.href = documents[name];
  }

  const sheet = new CSSStyleSheet();
  sheet.replaceSync(styles);
  document.adoptedStyleSheets = [sheet];

  mark(named());
  const ui = SwaggerUIBundle({
    dom_id: "#reference",
    url: documents[named()],
    validatorUrl: null, // never hand the document to a validator elsewhere
    queryConfigEnabled: false, // nor let a link replace it
    persistAuthorization: false,
    deepLinking: false, // the part after # is ours
    defaultModelsExpandDepth: 0,
  });

  window.addEventListener("hashchange", () => {
    mark(named());
    ui.specActions.updateUrl(documents[named()]);
    ui.specActions.download(documents[named()]);
  });
  select.addEventListener("change", () => {
    location.hash = select.value;
  });
})();
