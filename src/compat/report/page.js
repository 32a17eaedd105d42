(() => {
  const filter = document.querySelector(".filter");
  const search = document.getElementById("search");
  const cases = [...document.querySelectorAll("details.case")];
  const texts = cases.map((one) => one.textContent.toLowerCase());
  let kind = "";
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    cases.forEach((one, at) => {
      const is = (!kind || one.dataset.kind === kind) && words.every((word) => texts[at].includes(word));
      one.hidden = !is;
      shown += is ? 1 : 0;
    });
    document.getElementById("none").hidden = shown > 0;
  };
  document.querySelectorAll("button.kind").forEach((button) =>
    button.addEventListener("click", () => {
      kind = button.dataset.kind;
      document.querySelectorAll("button.kind").forEach((other) => other.classList.toggle("on", other === button));
      show();
    }));
  search.addEventListener("input", show);
  filter.hidden = false;
})();
