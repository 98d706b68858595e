// A choice of how many days: radio buttons, so that arrows and screen readers work as they do everywhere.
export class Days extends EventTarget {
  constructor(fieldset, chosen) {
    super();
    this.current = chosen;
    for (const radio of fieldset.querySelectorAll("input[type=radio]")) {
      radio.checked = Number(radio.value) === chosen;
      radio.addEventListener("change", () => {
        this.current = Number(radio.value);
        this.dispatchEvent(new Event("change"));
      });
    }
  }
}
