import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { type Logger, openSealed, type SealingKey, seal } from '@roost/base'
import {
  type Certificate,
  certificateId,
  type HostId,
  holdsCertificate,
  keySealing,
  mergeCertificates,
} from '@roost/core'
import { checkRecord } from '../record/check-record.ts'

/**
 * All certificates that this edge has heard of, from the server, from other edges or by its own order. What the server does not know
 * yet is kept in a file, private keys sealed as everywhere, so that it outlives this program while the server is dead.
 */
export interface CertificateShelf {
  /** Those of names that there are. */
  list(): readonly Certificate[]
  of(hostname: string): readonly Certificate[]
  /** All of them at once: for whoever looks at many names. */
  byName(): ReadonlyMap<string, readonly Certificate[]>
  /** True: it says something that was not known. */
  put(heard: Certificate): boolean
  /** What the server has not heard. */
  unknownToServer(): readonly Certificate[]
  /** Forgets what the server knows by now, and what belongs to no name. */
  tidy(): void
  /** The private key in PEM; null: it is not sealed for this host. */
  keyOf(certificate: Certificate): Promise<string | null>
}

const KEPT_MAX = 2000

interface Shelved {
  readonly records: readonly Certificate[]
  readonly hostnames: readonly { readonly name: string }[]
  /** By the word of the server alone. */
  readonly recorded: ReadonlyMap<string, Certificate>
  readonly byId: ReadonlyMap<string, Certificate>
  readonly byName: ReadonlyMap<string, readonly Certificate[]>
}

/** A host whose sealing key is none is told to `onFailure` and left out: the others get it. */
export async function sealKeyFor(
  certificate: Certificate,
  key: string,
  hosts: readonly { readonly id: HostId; readonly sealingKey: string }[],
  onFailure: (host: HostId, error: unknown) => void,
): Promise<Certificate> {
  const sealed = await Promise.all(
    hosts
      .filter(({ sealingKey }) => sealingKey !== '')
      .map(async ({ id, sealingKey }) =>
        seal(key, sealingKey, keySealing(certificate)).then(
          (text) => [[id, text] as const],
          (error) => {
            onFailure(id, error)
            return []
          },
        ),
      ),
  )
  return {
    ...certificate,
    sealedKeys: { ...certificate.sealedKeys, ...Object.fromEntries(sealed.flat()) },
  }
}

export function createCertificateShelf(options: {
  readonly file: string
  readonly self: HostId
  readonly sealing: SealingKey
  /** Both are the very same lists as before when nothing in them has changed. */
  readonly records: () => readonly Certificate[]
  readonly hostnames: () => readonly { readonly name: string }[]
  readonly log: Logger
}): CertificateShelf {
  const { file, self, sealing, log } = options
  const kept = new Map<string, Certificate>(
    readKept(file).map((certificate) => [certificateId(certificate), certificate]),
  )
  const keys = new Map<string, Promise<string | null>>()
  const said = new Set<string>()
  let failed = false
  let shelved: Shelved | null = null

  function write(): void {
    try {
      writeFileSync(`${file}.part`, JSON.stringify([...kept.values()]), { mode: 0o600 })
      renameSync(`${file}.part`, file)
      failed = false
    } catch (error) {
      if (!failed) log.error('certificates that the server does not know: write', { file, error })
      failed = true
    }
  }

  /** Made anew when something changed: each name is looked up each second. */
  function all(): Shelved {
    const records = options.records()
    const hostnames = options.hostnames()
    if (shelved?.records === records && shelved.hostnames === hostnames) return shelved
    const byName = new Map(hostnames.map(({ name }) => [name, [] as Certificate[]]))
    const byId = new Map<string, Certificate>()
    for (const one of [...records, ...kept.values()]) {
      if (!byName.has(one.hostname)) continue
      const id = certificateId(one)
      byId.set(id, mergeCertificates(byId.get(id) ?? null, one))
    }
    for (const one of byId.values()) byName.get(one.hostname)?.push(one)
    const recorded = new Map(records.map((one) => [certificateId(one), one]))
    shelved = { records, hostnames, recorded, byId, byName }
    return shelved
  }

  const recordOf = (id: string) => all().recorded.get(id) ?? null

  async function open(certificate: Certificate): Promise<string | null> {
    const sealed = certificate.sealedKeys[self]
    if (sealed === undefined) return null
    try {
      return await openSealed(sealed, sealing, keySealing(certificate))
    } catch (error) {
      const { hostname, fingerprint } = certificate
      if (!said.has(fingerprint))
        log.error('the private key of a certificate can not be opened', { hostname, error })
      if (said.size < KEPT_MAX) said.add(fingerprint)
      return null
    }
  }

  return {
    list: () => [...all().byId.values()],
    of: (hostname) => all().byName.get(hostname) ?? [],
    byName: () => all().byName,
    put(heard) {
      const id = certificateId(heard)
      const known = all().byId.get(id) ?? null
      if (checkRecord('certificate', heard).kind === 'bad' || holdsCertificate(known, heard))
        return false
      if (kept.size >= KEPT_MAX && !kept.has(id)) return false
      kept.set(id, mergeCertificates(known, heard))
      shelved = null
      write()
      return true
    },
    unknownToServer: () =>
      [...kept.values()].filter((one) => !holdsCertificate(recordOf(certificateId(one)), one)),
    tidy() {
      const { byName } = all()
      const before = kept.size
      for (const [id, one] of kept)
        if (!byName.has(one.hostname) || holdsCertificate(recordOf(id), one)) kept.delete(id)
      if (kept.size !== before) shelved = null
      if (kept.size !== before || failed) write()
      const living = new Set([...all().byId.values()].map(({ fingerprint }) => fingerprint))
      for (const fingerprint of keys.keys()) if (!living.has(fingerprint)) keys.delete(fingerprint)
    },
    async keyOf(certificate) {
      const { fingerprint } = certificate
      const known = keys.get(fingerprint)
      if (known !== undefined) return known
      const opening = open(certificate)
      keys.set(fingerprint, opening)
      const key = await opening
      // It may be sealed for us later.
      if (key === null) keys.delete(fingerprint)
      return key
    },
  }
}

function readKept(file: string): readonly Certificate[] {
  try {
    const values = JSON.parse(readFileSync(file, 'utf8')) as readonly unknown[]
    return values.flatMap((value) => {
      const checked = checkRecord('certificate', value)
      return checked.kind === 'good' ? [checked.value] : []
    })
  } catch {
    return []
  }
}
