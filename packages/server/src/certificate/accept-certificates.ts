import type { CertificateReport } from '@roost/api'
import {
  type Certificate,
  holdsCertificate,
  type Instant,
  lastFailure,
  mergeCertificates,
  type OrderFailure,
} from '@roost/core'
import { getHostname, listCertificates, putCertificate, putHostname } from '../store/hostnames.ts'
import type { Tx } from '../store/store.ts'

/** What an edge says of certificates. It may say it again, or late: what counts stays, and what belongs to no name is let go. */
export async function acceptCertificates(
  tx: Tx,
  report: CertificateReport,
  now: Instant,
): Promise<void> {
  for (const certificate of report.certificates ?? []) await accept(tx, certificate, now)
  for (const [name, failure] of Object.entries(report.failures ?? {}))
    await acceptFailure(tx, name, failure, now)
}

async function accept(tx: Tx, heard: Certificate, now: Instant): Promise<void> {
  const hostname = await getHostname(tx, heard.hostname)
  if (hostname === null) return
  const known =
    (await listCertificates(tx, [hostname.name])).find(({ source }) => source === heard.source) ??
    null
  // Nobody orders what was asked to stop, and an imported one comes from people alone.
  if (known === null && (heard.source === 'custom' || !hostname.acme)) return
  if (heard.source === 'custom' && known?.fingerprint !== heard.fingerprint) return
  if (holdsCertificate(known, heard)) return
  await putCertificate(tx, mergeCertificates(known, heard))
  if (heard.source !== 'acme') return
  // An authority was shown that it is ours.
  const failure = lastFailure([hostname.failure], now)
  await putHostname(tx, {
    ...hostname,
    provenAt: hostname.provenAt ?? now,
    failure: failure !== null && failure.at > heard.gotAt ? failure : null,
  })
}

async function acceptFailure(
  tx: Tx,
  name: string,
  failure: OrderFailure | null,
  now: Instant,
): Promise<void> {
  const hostname = await getHostname(tx, name)
  if (hostname === null) return
  // The edge's clock may be ahead of ours: a failure in the time to come would count as none.
  const heard = failure === null ? null : { ...failure, at: Math.min(failure.at, now) }
  const next = heard === null ? null : lastFailure([hostname.failure, heard], now)
  await putHostname(tx, { ...hostname, failure: next })
}
