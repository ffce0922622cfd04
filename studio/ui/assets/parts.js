// Parts of the form that are our own: groups of choices, lists, sliders, numbers, places for files. Each is drawn once
// and then follows its properties, so that the focus stays where it was; every word in it comes from the program.
window.studioParts = (() => {
  let made = 0;
  const make = (tag, more = {}, inside = []) => {
    const one = Object.assign(document.createElement(tag), more);
    one.append(...inside);
    return one;
  };
  const say = (place, words) => {
    if (place.textContent !== (words ?? "")) place.textContent = words ?? "";
  };
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
  // Draws now and after every answer of the program; `watch` wants names, and these are all there are.
  const follow = (props, watch, draw) => {
    draw();
    watch(["value", "label", "visible", "choices", "info", "interactive", "maximum", "words"], draw);
  };

  // A group of radio buttons (arrows walk through it), or with `list` a native list. Values keep their type.
  const choice = (element, trigger, props, watch, upload, fixed) => {
    const id = `part-${++made}`;
    const { list } = fixed;
    const title = make(list ? "label" : "legend", { className: `title${fixed.untitled ? " unseen" : ""}`, htmlFor: id });
    const field = make(list ? "select" : "div", { className: "wrap", id });
    const info = make("p", { className: "info-text", id: `${id}-info` });
    const whole = make(list ? "div" : "fieldset", { className: `part ${list ? "list" : "choice"}` }, [title, field, info]);
    if (!list) whole.setAttribute("role", "radiogroup");
    element.append(whole);
    const take = (index) => {
      const value = props.choices[index]?.[1];
      if (value === undefined || same(value, props.value)) return;
      props.value = value;
      draw();
      trigger("input");
    };
    const option = ([words, value], index) => {
      if (list) return make("option", { value: String(index), textContent: words });
      const button = make("input", { type: "radio", name: id, value: String(value), onchange: () => take(index) });
      return make("label", {}, [button, make("span", { textContent: words })]);
    };
    if (list) field.onchange = () => take(Number(field.value));
    let drawn = null;
    const draw = () => {
      const choices = props.choices ?? [];
      say(title, props.label);
      say(info, props.info);
      info.hidden = !props.info;
      if (props.info) (list ? field : whole).setAttribute("aria-describedby", info.id);
      if (drawn === null || drawn.length !== choices.length || !same(drawn.map((one) => one[1]), choices.map((one) => one[1])))
        field.replaceChildren(...choices.map(option));
      else choices.forEach(([words], index) => say(list ? field.options[index] : field.children[index].lastChild, words));
      drawn = choices.map((one) => [...one]);
      const chosen = choices.findIndex((one) => same(one[1], props.value));
      if (list) field.selectedIndex = chosen;
      else [...field.children].forEach((label, index) => {
        label.classList.toggle("selected", index === chosen);
        label.firstChild.checked = index === chosen;
      });
      for (const input of list ? [field] : field.querySelectorAll("input")) input.disabled = props.interactive === false;
    };
    follow(props, watch, draw);
  };

  // A number, with `slider` beside a slider. An empty number is "".
  const number = (element, trigger, props, watch, upload, fixed) => {
    const id = `part-${++made}`;
    const title = make("label", { className: "title", htmlFor: id });
    const field = make("input", { type: "number", id, step: "any" });
    const slider = fixed.slider ? make("input", { type: "range", id: `${id}-slider` }) : null;
    const info = make("p", { className: "info-text", id: `${id}-info` });
    element.append(make("div", { className: `part ${slider ? "slider" : "number"}` },
      slider ? [make("div", { className: "head" }, [title, field]), slider, info] : [title, field, info]));
    if (slider) title.htmlFor = slider.id;
    const take = (words) => {
      const value = words === "" ? "" : Number(words);
      if (same(value, props.value)) return;
      props.value = value;
      draw();
      trigger("input");
    };
    field.onchange = () => take(field.value);
    field.oninput = () => { if (field.value !== "") take(field.value); };
    if (slider) slider.oninput = () => take(slider.value);
    const draw = () => {
      say(title, props.label);
      say(info, props.info);
      info.hidden = !props.info;
      const off = props.interactive === false, value = props.value ?? "";
      if (field !== document.activeElement || Number(field.value) !== value) field.value = value;
      if (slider) {
        Object.assign(slider, { min: fixed.least, max: props.maximum ?? fixed.most, step: fixed.step });
        slider.value = value === "" ? slider.min : value;
        slider.style.setProperty("--part", `${(100 * (slider.value - slider.min)) / (slider.max - slider.min)}%`);
        field.setAttribute("aria-label", props.label ?? "");
      }
      for (const input of slider ? [field, slider] : [field]) {
        input.disabled = off;
        if (props.info) input.setAttribute("aria-describedby", info.id);
      }
    };
    follow(props, watch, draw);
  };

  // A place for one file: what is chosen, dropped or pasted (page.js) replaces what was there. The value is its path.
  const file = (element, trigger, props, watch, upload, fixed) => {
    const id = `part-${++made}`;
    const input = make("input", { type: "file", id, accept: fixed.accept });
    const words = make("span");
    const zone = make("label", { className: "part file", htmlFor: id }, [input, words]);
    element.append(zone);
    let failed = false;
    input.onchange = async () => {
      const [chosen] = input.files;
      if (!chosen) return;
      zone.classList.add("busy");
      failed = false;
      try {
        props.value = (await upload(chosen)).path;
        trigger("upload");
      } catch {
        failed = true;
      }
      input.value = ""; // so that the same file can be chosen again
      zone.classList.remove("busy");
      draw();
    };
    const draw = () => {
      say(words, failed ? props.words?.failed : props.words?.drop);
      zone.classList.toggle("failed", failed);
      input.setAttribute("aria-label", props.label ?? "");
    };
    follow(props, watch, draw);
  };

  return { choice, number, file };
})();
