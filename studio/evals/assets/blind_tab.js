// The blind test as a tab: which two recipes, or the test that a link names.
startBlindTest(element, ({ part, call, quietly, only, open }) => {
  const LINK = /^#blind-([0-9a-f]{16})$/;
  const enter = (id) => {
    const link = new URL(`#blind-${id}`, location.href);
    part("link").textContent = link.href;
    part("invite").hidden = false;
    open(`studio/blind/${id}/`);
  };
  const choose = quietly(async () => {
    only("choose");
    part("result").replaceChildren();
    const { recipes } = await call("studio/blind");
    for (const [name, at] of [["first", 0], ["second", 1]]) {
      part(name).replaceChildren(...recipes.map((one) => new Option(`${one.recipe} · ${one.evaluation}`, JSON.stringify([one.evaluation, one.recipe]))));
      part(name).selectedIndex = Math.min(at, recipes.length - 1);
    }
    part("none").hidden = recipes.length > 1;
    part("open").disabled = recipes.length < 2;
  });
  part("open").onclick = quietly(async () => {
    const chosen = ["first", "second"].map((name) => JSON.parse(part(name).value));
    enter((await call("studio/blind", { first: chosen[0], second: chosen[1] })).id);
  });
  part("leave").onclick = () => { history.replaceState(null, "", location.pathname); choose(); };
  const follow = () => {
    const found = location.hash.match(LINK);
    if (found) enter(found[1]);
    return Boolean(found);
  };
  addEventListener("hashchange", follow);
  let seen = false; // what can be chosen is asked again whenever the tab is opened
  new IntersectionObserver(([now]) => {
    if (now.isIntersecting && !seen && !part("choose").hidden) choose();
    seen = now.isIntersecting;
  }).observe(element);
  if (!follow()) choose();
});
