// The note that a table scrolls is shown where it does. Without scripts the page goes by its estimated width.
for (const scroll of document.querySelectorAll(".scroll")) {
  const hint = scroll.parentElement.querySelector(".hint");
  new ResizeObserver(() => {
    hint.style.display = scroll.scrollWidth > scroll.clientWidth + 1 ? "block" : "none";
  }).observe(scroll);
}
