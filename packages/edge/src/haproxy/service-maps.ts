import type { HttpOptions, Route } from '@roost/core'
import type { ProxyFile } from './haproxy-process.ts'
import type { ServiceMaps } from './observed-proxy.ts'
import { poolOf } from './pools.ts'
import type { ProxyFiles } from './render-config.ts'
import type { ServiceShape } from './render-services.ts'
import { servicesScript } from './services-script.ts'
import type { TlsLists } from './tls-lists.ts'

/** What HAProxy must look up for these routes, which have these slots. `httpsPort`: where it takes TLS for all apps. */
export function serviceMapsOf(
  routes: readonly Route[],
  slotOf: (route: Route) => string | undefined,
  httpsPort: number | null,
): ServiceMaps {
  const names = new Map<string, string>()
  const ports = new Map<string, string>()
  const options = new Map<string, string>()
  const statics = new Map<string, string>()
  for (const route of routes) {
    const { listener, http, statics: folders = [] } = route
    const [slot, pool] = [slotOf(route), poolOf(route)]
    if (slot !== undefined && pool === 't')
      for (const name of route.hostnames) names.set(name, slot)
    if (slot !== undefined && http !== undefined && (pool === 'o' || pool === 'c'))
      options.set(slot, optionsText(http))
    if (slot !== undefined && pool !== 't' && folders.length > 0) {
      statics.set(slot, 'slot')
      for (const { urlPrefix } of folders) statics.set(`${slot}${urlPrefix}`, 'file')
    }
    if (listener === undefined || listener.kind === 'udp') continue
    const { from, to } = listener
    ports.set(from === to ? `${from}` : `${from}:${to}`, `${from}`)
    // The edge may have been told to use another port for what strangers call 443.
    if (from === 443 && httpsPort !== null) ports.set(`${httpsPort}`, '443')
  }
  return { names, ports, options, statics }
}

/** The same as files, for a HAProxy that starts, with the script. */
export function serviceFilesOf(
  { files }: ServiceShape,
  maps: ServiceMaps,
  lists: { readonly [K in keyof TlsLists]: readonly string[] },
  { askSocket }: Pick<ProxyFiles, 'askSocket'>,
): readonly ProxyFile[] {
  const lines = (map: ReadonlyMap<string, string>) =>
    [...map].map(([key, value]) => `${key} ${value}\n`).join('')
  return [
    { path: files.names, content: lines(maps.names) },
    { path: files.ports, content: lines(maps.ports) },
    { path: files.options, content: lines(maps.options) },
    { path: files.statics, content: lines(maps.statics) },
    { path: files.httpsList, content: lists.https.map((line) => `${line}\n`).join('') },
    { path: files.tlsList, content: lists.tls.map((line) => `${line}\n`).join('') },
    { path: files.script, content: servicesScript(askSocket) },
  ]
}

/**
 * `<idle milliseconds or 0>|<1: nothing is added>|<headers>`. Headers with commas between them: `s:name:value` sets, `a:name:value` adds
 * another, `d:name` takes away. Escaped so that neither HAProxy's maps nor its command line see anything but one word.
 */
export function optionsText({ idle_timeout = 0, response = {} }: HttpOptions): string {
  const { headers = {}, pristine = false } = response
  const changes = Object.entries(headers).flatMap(([name, value]) => {
    if (value === false) return [`d:${escaped(name)}`]
    const values = typeof value === 'string' ? [value] : value
    return values.map((one, n) => `${n === 0 ? 's' : 'a'}:${escaped(name)}:${escaped(one)}`)
  })
  return `${idle_timeout * 1000}|${pristine ? 1 : 0}|${changes.join(',')}`
}

function escaped(text: string): string {
  return [...Buffer.from(text, 'latin1')]
    .map((byte) => {
      const char = String.fromCharCode(byte)
      return /[A-Za-z0-9_.-]/.test(char) ? char : `%${byte.toString(16).padStart(2, '0')}`
    })
    .join('')
}
