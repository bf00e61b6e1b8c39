/* SPDX-License-Identifier: Apache-2.0 */
/* salvage: for a file that has pages of several keys. */
#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "client/rekey/check.h"
#include "client/rekey/scan.h"

int salvage_run(struct work *work)
{
        return answer_refuse(LKM_E_UNSUPPORTED, "This lkm-rekey does not salvage %s.", work->database);
}
int export_run(struct work *work)
{
        return answer_refuse(LKM_E_UNSUPPORTED, "This lkm-rekey does not export %s.", work->database);
}
