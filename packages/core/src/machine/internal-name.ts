/** Which machines a private name means. What is null is left open. */
export interface NamedMachines {
  readonly app: string | null
  readonly machine: string | null
  readonly region: string | null
  readonly group: string | null
  /** A machine's own private address, as it was written. */
  readonly address: string | null
}

const ANY: NamedMachines = { app: null, machine: null, region: null, group: null, address: null }
const LABEL = /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$/

/**
 * A machine's id, its private address, or a name as at Fly: `shop.internal`, `ams.shop.internal`, `<id>.vm.shop.internal`,
 * `worker.process.shop.internal`, `top3.nearest.of.shop.internal`, `global.shop.internal`. null: it is none of these.
 */
export function namedMachines(text: string): NamedMachines | null {
  const name = text
    .toLowerCase()
    .replace(/\.$/, '')
    .replace(/^\[(.*)\]$/, '$1')
  if (/^[0-9a-f]{14}$/.test(name)) return { ...ANY, machine: name }
  if (name.includes(':') || /^\d+(\.\d+){3}$/.test(name)) return { ...ANY, address: name }
  if (!name.endsWith('.internal')) return null
  const labels = name.split('.').slice(0, -1)
  const app = labels.pop()
  if (app === undefined || ![app, ...labels].every((label) => LABEL.test(label))) return null
  const [first = '', second = '', third] = labels
  if (labels.length === 0 || (labels.length === 1 && first === 'global')) return { ...ANY, app }
  if (labels.length === 1) return { ...ANY, app, region: first }
  if (labels.length === 2 && second === 'vm') return { ...ANY, app, machine: first }
  if (labels.length === 2 && second === 'process') return { ...ANY, app, group: first }
  if (labels.length === 3 && second === 'nearest' && third === 'of') return { ...ANY, app }
  return null
}
