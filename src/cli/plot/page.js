(() => {
  'use strict';
  const data = JSON.parse(document.getElementById('data').textContent);
  const byId = (id) => document.getElementById(id);
  const count = data.names.length;
  const k = data.near;

  // Each point: x, y, its cluster, and k others with their cosines. As page.rs packs them.
  const packed = Uint8Array.from(atob(data.points), (c) => c.charCodeAt(0));
  const view = new DataView(packed.buffer);
  const stride = 5 + 4 * k;
  const xs = new Float64Array(count);
  const ys = new Float64Array(count);
  const cluster = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    xs[i] = view.getUint16(i * stride, true) / 65535;
    ys[i] = view.getUint16(i * stride + 2, true) / 65535;
    cluster[i] = view.getUint8(i * stride + 4);
  }
  const near = (i) => {
    const found = [];
    for (let j = 0; j < k; j++) {
      const at = i * stride + 5 + 4 * j;
      const point = view.getUint16(at, true);
      if (point < count) found.push({ point, cosine: view.getInt16(at + 2, true) / 10000 });
    }
    return found;
  };

  const canvas = byId('map');
  const context = canvas.getContext('2d');
  const calm = matchMedia('(prefers-reduced-motion: reduce)');
  let width = 0, height = 0, colors = {};
  // The middle of what is seen, and how many pixels the whole is wide.
  let eye = { x: 0.5, y: 0.5, scale: 1 };
  let hovered = -1, chosen = -1, only = -1, asked = false, flight = 0;

  const readColors = () => {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    // What a variable stands for is known only where it is used.
    const dark = matchMedia('(prefers-color-scheme: dark)').matches;
    colors = {
      points: of(dark ? '--dark' : '--light').split(/\s+/),
      ground: of('--ground'), ink: of('--ink'), faint: of('--faint'), dark,
    };
  };
  const colorOf = (i) => colors.points[cluster[i] % colors.points.length];

  // The room that panels leave, so that nothing is shown under them.
  const room = () => {
    const wide = width > 700;
    const left = wide ? 312 : 16;
    const top = wide ? 24 : byId('panel').getBoundingClientRect().bottom + 16;
    const right = 24, bottom = wide ? byId('clusters').offsetHeight + 36 : 24;
    return { left, top, wide: Math.max(80, width - left - right), high: Math.max(80, height - top - bottom) };
  };
  const whole = () => {
    let [x0, x1, y0, y1] = [1, 0, 1, 0];
    for (let i = 0; i < count; i++) {
      x0 = Math.min(x0, xs[i]); x1 = Math.max(x1, xs[i]);
      y0 = Math.min(y0, ys[i]); y1 = Math.max(y1, ys[i]);
    }
    const space = room();
    const scale = 0.94 * Math.min(space.wide / Math.max(x1 - x0, 0.05), space.high / Math.max(y1 - y0, 0.05));
    const middle = { x: (x0 + x1) / 2, y: (y0 + y1) / 2 };
    return {
      x: middle.x - (space.left + space.wide / 2 - width / 2) / scale,
      y: middle.y - (space.top + space.high / 2 - height / 2) / scale,
      scale,
    };
  };
  let home = whole();
  const zoomed = () => eye.scale / home.scale;
  const screenX = (i) => (xs[i] - eye.x) * eye.scale + width / 2;
  const screenY = (i) => (ys[i] - eye.y) * eye.scale + height / 2;

  const ask = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; draw(); });
  };

  const draw = () => {
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const focus = hovered >= 0 ? hovered : chosen;
    const around = focus >= 0 ? near(focus) : [];
    const bright = new Set(around.map((it) => it.point));
    if (focus >= 0) bright.add(focus);
    if (chosen >= 0) bright.add(chosen);
    const crowd = Math.sqrt(2000 / Math.max(count, 400));
    const radius = Math.min(7, Math.max(1.3, 2.7 * crowd * Math.pow(zoomed(), 0.33)));
    const plain = colors.dark ? 0.88 : 0.8;
    const fade = (i) => {
      if (bright.has(i)) return 1;
      if (only >= 0 && cluster[i] !== only) return 0.1;
      return focus >= 0 ? 0.32 : plain;
    };

    for (let i = count - 1; i >= 0; i--) {
      const x = screenX(i), y = screenY(i);
      if (x < -9 || y < -9 || x > width + 9 || y > height + 9 || bright.has(i)) continue;
      context.globalAlpha = fade(i);
      context.fillStyle = colorOf(i);
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
    if (focus >= 0) {
      context.lineCap = 'round';
      for (const it of around) {
        context.strokeStyle = colorOf(focus);
        context.globalAlpha = Math.min(0.85, 0.2 + Math.max(0, it.cosine));
        context.lineWidth = 1.3;
        context.beginPath();
        context.moveTo(screenX(focus), screenY(focus));
        context.lineTo(screenX(it.point), screenY(it.point));
        context.stroke();
      }
      context.globalAlpha = 1;
      for (const i of bright) {
        const large = i === focus || i === chosen;
        context.fillStyle = colorOf(i);
        context.strokeStyle = large ? colors.ink : colors.ground;
        context.lineWidth = large ? 2 : 1;
        context.beginPath();
        context.arc(screenX(i), screenY(i), radius + (large ? 2.6 : 1), 0, 7);
        context.fill();
        context.stroke();
      }
    }
    document.documentElement.dataset.labels = drawLabels(focus, around, bright, fade, radius);
    document.documentElement.dataset.points = count;
  };

  // Names, the first ones first, each where no other is.
  const widths = new Map();
  const drawLabels = (focus, around, bright, fade, radius) => {
    const cell = 48;
    const taken = new Map();
    const cells = (r) => {
      const all = [];
      for (let y = Math.floor(r.y0 / cell); y <= Math.floor(r.y1 / cell); y++)
        for (let x = Math.floor(r.x0 / cell); x <= Math.floor(r.x1 / cell); x++) all.push(y * 4096 + x);
      return all;
    };
    const free = (r) => !cells(r).some((key) => (taken.get(key) || []).some(
      (o) => r.x0 < o.x1 && o.x0 < r.x1 && r.y0 < o.y1 && o.y0 < r.y1));
    const take = (r) => { for (const key of cells(r)) (taken.get(key) || taken.set(key, []).get(key)).push(r); };
    for (const id of ['panel', 'clusters', 'zoom']) {
      const r = byId(id).getBoundingClientRect();
      if (r.width) take({ x0: r.left - 4, x1: r.right + 4, y0: r.top - 4, y1: r.bottom + 4 });
    }
    // Where points are, so that names cover few of them.
    const near24 = new Map();
    for (let i = 0; i < count; i++) {
      const x = screenX(i), y = screenY(i);
      if (x < 0 || y < 0 || x > width || y > height) continue;
      const key = Math.floor(y / 24) * 4096 + Math.floor(x / 24);
      (near24.get(key) || near24.set(key, []).get(key)).push(x, y);
    }
    const covered = (r) => {
      let sum = 0;
      for (let cy = Math.floor(r.y0 / 24); cy <= Math.floor(r.y1 / 24); cy++) {
        for (let cx = Math.floor(r.x0 / 24); cx <= Math.floor(r.x1 / 24); cx++) {
          const points = near24.get(cy * 4096 + cx) || [];
          for (let j = 0; j < points.length; j += 2)
            if (points[j] > r.x0 && points[j] < r.x1 && points[j + 1] > r.y0 && points[j + 1] < r.y1) sum++;
        }
      }
      return sum;
    };
    let drawn = 0;
    const label = (i, size, weight, color, alpha, must) => {
      const x = screenX(i), y = screenY(i);
      if (x < 0 || y < 0 || x > width || y > height) return;
      const font = `${weight} ${size}px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif`;
      const key = font + data.names[i];
      if (context.font !== font) context.font = font;
      let wide = widths.get(key);
      if (wide === undefined) { wide = context.measureText(data.names[i]).width; widths.set(key, wide); }
      const gap = radius + 3 + (must ? 3 : 0);
      const places = [[x + gap, y], [x - gap - wide, y], [x - wide / 2, y - gap - size * 0.45], [x - wide / 2, y + gap + size * 0.45]];
      const rect = ([left, middle]) => ({ x0: left - 2, x1: left + wide + 2, y0: middle - size * 0.62, y1: middle + size * 0.62 });
      let place = must ? places[0] : null, least = Infinity;
      for (const p of places) {
        if (p[0] < 2 || p[0] + wide > width - 2 || !free(rect(p))) continue;
        const over = covered(rect(p));
        if (over < least) { least = over; place = p; }
        if (over === 0) break;
      }
      if (!place) return;
      take(rect(place));
      context.globalAlpha = alpha;
      context.textBaseline = 'middle';
      context.lineJoin = 'round';
      context.lineWidth = must ? 4 : 3;
      context.strokeStyle = colors.ground;
      context.fillStyle = color;
      context.strokeText(data.names[i], place[0], place[1]);
      context.fillText(data.names[i], place[0], place[1]);
      drawn++;
      return true;
    };
    if (focus >= 0) label(focus, 15, 650, colors.ink, 1, true);
    if (chosen >= 0 && chosen !== focus) label(chosen, 15, 650, colors.ink, 1, true);
    for (const it of around) label(it.point, 13, 550, colors.ink, 1, false);
    const size = Math.min(14, 11.5 + Math.log2(Math.max(1, zoomed())) * 0.6);
    // A crowd of names would hide the shape that the points make: each part of the picture has a few.
    const quota = Math.floor(0.7 + zoomed() * 0.6);
    const used = new Map();
    for (let i = 0; i < count; i++) {
      if (bright.has(i) || fade(i) < 0.2) continue;
      const key = Math.floor(screenY(i) / 46) * 4096 + Math.floor(screenX(i) / 92);
      if ((used.get(key) || 0) >= quota) continue;
      if (label(i, size, 400, colors.ink, focus >= 0 ? 0.4 : 0.95, false)) used.set(key, (used.get(key) || 0) + 1);
    }
    context.globalAlpha = 1;
    return drawn;
  };

  // Moving about.
  const fly = (to) => {
    cancelAnimationFrame(flight);
    if (calm.matches) { eye = to; ask(); return; }
    const from = { ...eye }, start = performance.now(), time = 420;
    const step = (now) => {
      const t = Math.min(1, (now - start) / time);
      const e = t < 0.5 ? 4 * t * t * t : 1 - Math.pow(2 - 2 * t, 3) / 2;
      const scale = from.scale * Math.pow(to.scale / from.scale, e);
      // Places move as the scale does, or the way would bend.
      const share = Math.abs(to.scale - from.scale) < 1e-9 ? e
        : (1 / from.scale - 1 / scale) / (1 / from.scale - 1 / to.scale);
      eye = { x: from.x + (to.x - from.x) * share, y: from.y + (to.y - from.y) * share, scale };
      draw();
      if (t < 1) flight = requestAnimationFrame(step);
    };
    flight = requestAnimationFrame(step);
  };
  const limit = (scale) => Math.min(home.scale * 400, Math.max(home.scale * 0.5, scale));
  const zoomAt = (factor, x, y) => {
    cancelAnimationFrame(flight);
    const scale = limit(eye.scale * factor);
    const px = (x - width / 2) / eye.scale + eye.x, py = (y - height / 2) / eye.scale + eye.y;
    eye = { x: px - (x - width / 2) / scale, y: py - (y - height / 2) / scale, scale };
    ask();
  };
  const zoomBy = (factor) => {
    const space = room();
    zoomAt(factor, space.left + space.wide / 2, space.top + space.high / 2);
  };
  const pan = (dx, dy) => { eye.x -= dx / eye.scale; eye.y -= dy / eye.scale; ask(); };

  const pointAt = (x, y, reach) => {
    let best = -1, least = reach * reach;
    for (let i = 0; i < count; i++) {
      if (only >= 0 && cluster[i] !== only) continue;
      const dx = screenX(i) - x, dy = screenY(i) - y, d = dx * dx + dy * dy;
      if (d < least) { least = d; best = i; }
    }
    return best;
  };

  // What is under the pointer.
  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const tip = byId('tip');
  const hover = (i, x, y) => {
    if (i !== hovered) {
      hovered = i;
      canvas.classList.toggle('over', i >= 0);
      tip.replaceChildren();
      tip.hidden = i < 0;
      if (i >= 0) {
        tip.append(element('b', '', data.names[i]));
        for (const it of near(i).slice(0, 6)) {
          const line = element('div');
          line.append(element('span', 'token', data.names[it.point]), element('span', 'cosine', it.cosine.toFixed(3)));
          tip.append(line);
        }
      }
      ask();
    }
    if (i >= 0) {
      const r = tip.getBoundingClientRect();
      const left = x + 18 + r.width > width ? x - 18 - r.width : x + 18;
      tip.style.left = `${Math.max(4, left)}px`;
      tip.style.top = `${Math.max(4, Math.min(y + 14, height - r.height - 8))}px`;
    }
  };

  // The chosen point.
  const choose = (i, move) => {
    chosen = i;
    byId('chosen').hidden = i < 0;
    byId('near').replaceChildren();
    if (i < 0) {
      history.replaceState(null, '', location.pathname + location.search);
      ask();
      return;
    }
    byId('name').textContent = data.names[i];
    const dot = element('span', 'dot');
    dot.style.background = colorOf(i);
    const others = near(i);
    byId('about').replaceChildren(dot, `row ${data.ids[i]}${others.length ? ', nearest by cosine:' : ''}`);
    for (const it of others) {
      const item = element('li'), button = element('button');
      button.type = 'button';
      const bar = element('span', 'bar');
      bar.style.width = `${Math.max(0, it.cosine) * 100}%`;
      bar.style.background = colorOf(it.point);
      button.append(bar, element('span', 'token', data.names[it.point]), element('span', 'cosine', it.cosine.toFixed(3)));
      button.addEventListener('click', () => { choose(it.point, true); byId('near').querySelector('button')?.focus(); });
      button.addEventListener('pointerenter', () => { hovered = it.point; ask(); });
      button.addEventListener('pointerleave', () => { hovered = -1; ask(); });
      item.append(button);
      byId('near').append(item);
    }
    byId('said').textContent = `${data.names[i]}. Nearest: ${others.slice(0, 3).map((it) => data.names[it.point]).join(', ')}`;
    history.replaceState(null, '', '#' + encodeURIComponent(data.names[i]));
    if (only >= 0 && cluster[i] !== only) showOnly(-1);
    if (move) {
      const space = room();
      const scale = limit(Math.max(eye.scale, home.scale * 3));
      fly({
        x: xs[i] - (space.left + space.wide / 2 - width / 2) / scale,
        y: ys[i] - (space.top + space.high / 2 - height / 2) / scale,
        scale,
      });
    } else ask();
  };

  // The search: what begins with the words comes before what has them inside.
  const input = byId('search'), list = byId('found');
  const MOST = 8;
  const bare = (text) => text.toLowerCase().replace(/^(##|[\u0120\u2581])/, '');
  const keys = data.names.map(bare);
  let active = 0;
  const search = (text) => {
    const wanted = bare(text.trim());
    if (!wanted) return [];
    const ranked = [];
    for (let i = 0; i < count; i++) {
      const at = keys[i].indexOf(wanted);
      if (at < 0) continue;
      ranked.push({ i, rank: keys[i] === wanted ? 0 : at === 0 ? 1 : 2, length: at === 0 ? keys[i].length : 0 });
    }
    ranked.sort((a, b) => a.rank - b.rank || a.length - b.length || a.i - b.i);
    return ranked.slice(0, MOST).map((it) => it.i);
  };
  const mark = (to) => {
    const items = [...list.querySelectorAll('[role=option]')];
    if (!items.length) return;
    active = (to + items.length) % items.length;
    items.forEach((item, at) => item.setAttribute('aria-selected', String(at === active)));
    input.setAttribute('aria-activedescendant', items[active].id);
  };
  const close = () => {
    list.hidden = true;
    list.replaceChildren();
    input.setAttribute('aria-expanded', 'false');
    input.removeAttribute('aria-activedescendant');
  };
  const suggest = () => {
    close();
    if (!input.value.trim()) return;
    const found = search(input.value);
    list.hidden = false;
    input.setAttribute('aria-expanded', 'true');
    if (!found.length) { list.append(element('li', 'none', 'no such token here')); return; }
    found.forEach((i, at) => {
      const item = element('li', '', data.names[i]);
      item.id = `found-${at}`;
      item.setAttribute('role', 'option');
      item.dataset.point = i;
      item.addEventListener('pointerdown', (event) => { event.preventDefault(); pick(i); });
      list.append(item);
    });
    mark(0);
  };
  const pick = (i) => { input.value = ''; close(); choose(i, true); };
  input.addEventListener('input', suggest);
  input.addEventListener('blur', close);
  input.addEventListener('keydown', (event) => {
    const item = list.querySelector(`#found-${active}`);
    if (event.key === 'ArrowDown') { mark(active + 1); event.preventDefault(); }
    else if (event.key === 'ArrowUp') { mark(active - 1); event.preventDefault(); }
    else if (event.key === 'Enter' && item) { pick(Number(item.dataset.point)); canvas.focus(); }
    else if (event.key === 'Escape') { input.value = ''; close(); canvas.focus(); }
    event.stopPropagation();
  });

  // Clusters: one at a time may be looked at alone.
  const showOnly = (which) => {
    only = which;
    const nav = byId('clusters');
    nav.classList.toggle('some', only >= 0);
    [...nav.children].forEach((button, at) => button.setAttribute('aria-pressed', String(at === only)));
    ask();
  };
  const colorClusters = () => {
    [...byId('clusters').children].forEach((button, at) => {
      button.firstChild.style.background = colors.points[at % colors.points.length];
    });
  };
  data.clusters.forEach((name, at) => {
    const button = element('button');
    button.type = 'button';
    button.title = name;
    button.setAttribute('aria-pressed', 'false');
    button.append(element('span', 'dot'), element('span', '', name));
    button.addEventListener('click', () => showOnly(only === at ? -1 : at));
    byId('clusters').append(button);
  });
  byId('clusters').hidden = data.clusters.length < 2;

  // Pointers: one moves the map, two also zoom it.
  const pointers = new Map();
  let moved = 0;
  canvas.addEventListener('pointerdown', (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    moved = 0;
    cancelAnimationFrame(flight);
  });
  canvas.addEventListener('pointermove', (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) { hover(pointAt(event.clientX, event.clientY, 12), event.clientX, event.clientY); return; }
    const dx = event.clientX - last.x, dy = event.clientY - last.y;
    moved += Math.abs(dx) + Math.abs(dy);
    if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const before = Math.hypot(last.x - other.x, last.y - other.y);
      const after = Math.hypot(event.clientX - other.x, event.clientY - other.y);
      if (before > 0) zoomAt(after / before, (event.clientX + other.x) / 2, (event.clientY + other.y) / 2);
      pan(dx / 2, dy / 2);
    } else if (moved > 3) {
      canvas.classList.add('moving');
      hover(-1);
      pan(dx, dy);
    }
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  const release = (event) => {
    const held = pointers.delete(event.pointerId);
    canvas.classList.remove('moving');
    if (held && event.type === 'pointerup' && moved <= 3 && pointers.size === 0) {
      const reach = event.pointerType === 'mouse' ? 12 : 24;
      choose(pointAt(event.clientX, event.clientY, reach), false);
    }
  };
  canvas.addEventListener('pointerup', release);
  canvas.addEventListener('pointercancel', release);
  canvas.addEventListener('pointerleave', () => hover(-1));
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 30 : 1;
    zoomAt(Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.0016)), event.clientX, event.clientY);
    hover(-1);
  }, { passive: false });
  canvas.addEventListener('dblclick', (event) => zoomAt(2, event.clientX, event.clientY));

  addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = 60;
    const keys = {
      ArrowLeft: () => pan(step, 0), ArrowRight: () => pan(-step, 0),
      ArrowUp: () => pan(0, step), ArrowDown: () => pan(0, -step),
      '+': () => zoomBy(1.4), '=': () => zoomBy(1.4), '-': () => zoomBy(1 / 1.4),
      0: () => fly(home),
      '/': () => input.focus(),
      Escape: () => { if (only >= 0) showOnly(-1); else choose(-1); },
    };
    if (keys[event.key]) { keys[event.key](); event.preventDefault(); }
  });
  byId('in').addEventListener('click', () => zoomBy(1.6));
  byId('out').addEventListener('click', () => zoomBy(1 / 1.6));
  byId('all').addEventListener('click', () => fly(home));
  byId('close').addEventListener('click', () => { choose(-1); canvas.focus(); });

  // A link may name a point (#cat) or a search (#?ca).
  const follow = () => {
    let wanted = '';
    try { wanted = decodeURIComponent(location.hash.slice(1)); } catch { return; }
    if (wanted.startsWith('?')) {
      input.value = wanted.slice(1);
      suggest();
    } else if (wanted) {
      const exact = data.names.indexOf(wanted);
      const [first] = exact >= 0 ? [exact] : search(wanted);
      if (first !== undefined) choose(first, true);
    }
  };
  const resize = () => {
    const ratio = devicePixelRatio || 1;
    const stayed = Math.abs(zoomed() - 1) < 1e-6;
    width = innerWidth;
    height = innerHeight;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    home = whole();
    if (stayed) eye = { ...home };
    draw();
  };
  byId('title').textContent = data.title;
  byId('subtitle').textContent = data.subtitle;
  canvas.setAttribute('aria-label', `${data.title}: ${data.subtitle}`);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    readColors();
    colorClusters();
    if (chosen >= 0) choose(chosen, false);
    ask();
  });
  readColors();
  colorClusters();
  eye = { ...home };
  addEventListener('resize', resize);
  addEventListener('hashchange', follow);
  resize();
  follow();
})();
