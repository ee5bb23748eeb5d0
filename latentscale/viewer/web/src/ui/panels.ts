/** The page's panels in display order; adding one takes one line (docs/extend.md). */

import "./panels/list";
import "./panels/document";
import "./panels/quality";
import "./panels/filters";
import "./panels/selection";
import "./panels/tags";
import "./panels/edits";
import "./panels/documents";
import "./panels/time";
