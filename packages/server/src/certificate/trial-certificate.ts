import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runCommand } from '@roost/base'

/** For tests: a certificate that a small authority signed, with its key. PEM. */
export async function trialCertificate(
  names: readonly string[],
  options: { readonly days?: number; readonly key?: readonly string[] } = {},
): Promise<{ readonly fullchain: string; readonly key: string; readonly ca: string }> {
  const { days = 90, key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'] } = options
  const dir = mkdtempSync(join(tmpdir(), 'roost-trial-certificate-'))
  const at = (file: string) => join(dir, file)
  try {
    await runCommand([
      'openssl',
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-days', '200', '-subj', '/CN=trial authority', '-keyout', at('ca.key')],
      ...['-out', at('ca.pem')],
    ])
    await runCommand([
      'openssl',
      ...['req', '-x509', ...key, '-nodes', '-days', String(days), '-subj', `/CN=${names[0]}`],
      ...['-addext', `subjectAltName=${names.map((name) => `DNS:${name}`).join(',')}`],
      ...['-addext', 'basicConstraints=critical,CA:FALSE'],
      ...['-CA', at('ca.pem'), '-CAkey', at('ca.key')],
      ...['-keyout', at('own.key'), '-out', at('own.pem')],
    ])
    const read = (file: string) => readFileSync(at(file), 'utf8')
    return { fullchain: read('own.pem') + read('ca.pem'), key: read('own.key'), ca: read('ca.pem') }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
